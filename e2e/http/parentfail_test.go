//go:build linux

package http

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Each way in which a parent may fail, in front of another, of "direct", and alone: who goes on, what the
// client is told, and that nothing reaches the server but by a parent or by "direct".
func TestParentFails(t *testing.T) {
	o := newOutside(t)
	o.real(t, "3128", "")
	wrong := o.CA.serverConfig("other.example.com")
	answer := func(text string) func(string) string {
		return func(port string) string { return o.scripted(t, port, nil, says(text)).URL }
	}
	kinds := []struct {
		name string
		up   func(port string) (url string)
		next bool   // the next is asked
		want string // of the status line, where nobody else is
	}{
		{"refused", func(port string) string { return "http://" + beside + ":" + port }, true, "502 Bad Gateway: parent proxy URL: connect to ADDR: connection refused"},
		{"unknown", func(port string) string { return "http://nowhere.example.net:" + port }, true, "502 Bad Gateway: parent proxy URL: look up nowhere.example.net: "},
		{"silent", func(port string) string { return o.scripted(t, port, nil, hangs).URL }, true, "504 Gateway Timeout: parent proxy URL: no answer to CONNECT in time"},
		{"name", func(port string) string { return o.scripted(t, port, wrong, says("")).URL }, true, "502 Bad Gateway: parent proxy URL: TLS: tls: failed to verify certificate: x509: cannot validate certificate for 203.0.113.20"},
		{"plain", func(port string) string {
			return strings.Replace(o.scripted(t, port, nil, says("")).URL, "http:", "https:", 1)
		}, true, "504 Gateway Timeout: parent proxy URL: TLS: context deadline exceeded"},
		{"drips", func(port string) string { return o.scripted(t, port, nil, drips).URL }, true, "504 Gateway Timeout: parent proxy URL: no answer to CONNECT in time"},
		{"closes", answer(""), true, "503 Service Unavailable: parent proxy URL: it has closed the connection without an answer to CONNECT"},
		{"garbage", answer("SSH-2.0-x\r\n\r\n"), true, "502 Bad Gateway: parent proxy URL: its answer to CONNECT: malformed status line"},
		{"endless", answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), true, "502 Bad Gateway: parent proxy URL: its answer to CONNECT: head larger than the limit"},
		{"interim", answer(strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 2000)), true, "502 Bad Gateway: parent proxy URL: its answer to CONNECT: head larger than the limit"},
		{"switches", answer("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), true, "502 Bad Gateway: parent proxy URL: its answer to CONNECT: it switches protocols unasked"},
		{"bad", answer("HTTP/1.1 502 x\r\n\r\n"), true, "503 Service Unavailable: parent proxy URL: it does not get there: 502 x"},
		{"busy", answer("HTTP/1.1 503 x\r\n\r\n"), true, "503 Service Unavailable: parent proxy URL: it does not get there: 503 x"},
		{"login", answer("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"p\"\r\n\r\n"), false, "502 Bad Gateway: parent proxy URL: it wants a credential (407), and the gateway has none for it"},
		{"forbids", answer("HTTP/1.1 403 x\r\n\r\n"), false, "403 Forbidden: parent proxy URL: it refuses: 403 x"},
	}
	config := "rules: \"*.example.com\"\nparents:\n"
	urls := map[string]string{}
	for i, k := range kinds {
		url := k.up(fmt.Sprint(4000 + i))
		urls[k.name] = url
		first := fmt.Sprintf("{url: %q}", url)
		if strings.HasPrefix(url, "https:") {
			first = fmt.Sprintf("{url: %q, ca: %s}", url, o.CA.File)
		}
		config += fmt.Sprintf("- {for: [next-%[1]s.example.com], via: [%[2]s, 'http://%[3]s:3128']}\n- {for: [last-%[1]s.example.com], via: [%[2]s, direct]}\n- {for: [only-%[1]s.example.com], via: [%[2]s]}\n",
			k.name, first, beside)
		o.toA("next-"+k.name+".example.com", "last-"+k.name+".example.com", "only-"+k.name+".example.com")
	}
	o.withParents(t, config, "--connect-timeout", "3s")
	told := func(k, text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, "URL", urls[k]), "ADDR", strings.TrimPrefix(urls[k], "http://"))
	}
	wire := o.ServerA.Capture(t)
	schemes := []string{"https://", "http://"}
	for _, scheme := range schemes {
		for _, k := range kinds {
			got := o.curl(t, scheme+"only-"+k.name+".example.com/")
			assert.Contains(t, statusLine(got.Out), told(k.name, "HTTP/1.1 "+k.want), k.name+got.Err)
			assert.NotContains(t, got.Out, "Proxy-Authenticate", k.name)
		}
	}
	assert.Empty(t, o.Seen(t, wire, nettest.ServerAV4), "nothing goes directly that nobody has said may")
	for _, scheme := range schemes {
		for _, k := range kinds {
			for prefix, want := range map[string]string{"next-": viaParent, "last-": directly} {
				got := o.curl(t, scheme+prefix+k.name+".example.com/")
				if k.next {
					assert.Equal(t, want, lastLine(got.Out), prefix+k.name+got.Err)
				} else {
					assert.Contains(t, statusLine(got.Out), told(k.name, "HTTP/1.1 "+k.want), prefix+k.name)
				}
			}
		}
	}
}

// A parent that is gone is left alone; when it is there again it is the first again, with nobody's help, and
// what went by the other meanwhile goes on there.
func TestParentComesBack(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com")
	const first, second = "http://" + beside + ":3128", "http://" + beside + ":3129"
	one := o.real(t, "3128", "")
	o.real(t, "3129", "")
	g := o.withParents(t, "rules: api.example.com\nparents:\n- via: ["+first+", "+second+"]\n")
	up := func() string {
		return g.Metric(`sluice_parent_up{parent="`+first+`",tenant=""}`) + g.Metric(`sluice_parent_up{parent="`+second+`",tenant=""}`)
	}
	n := 0
	ask := func() string {
		n++
		got := o.curl(t, "https://api.example.com/")
		assert.Equal(t, viaParent, lastLine(got.Out), got.Err)
		return g.lastParent(n)
	}
	assert.Equal(t, first, ask())
	assert.Equal(t, "11", up())
	one.stop()
	for range 3 {
		assert.Equal(t, second, ask())
	}
	assert.Equal(t, "01", up())
	assert.Equal(t, "1", g.Metric(`sluice_parent_connections_total{outcome="unreachable",parent="`+first+`",tenant=""}`), "it is left alone")
	_, page := g.Ask("/")
	assert.Contains(t, page, first+": down")
	o.real(t, "3128", "")
	nettest.Eventually(t, "the first is asked again", func() bool { return ask() == first })
	assert.Equal(t, "11", up())
}
