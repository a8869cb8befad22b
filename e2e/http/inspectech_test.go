//go:build linux

package http

import (
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/tlshello"
)

// tap stands between clients and the gateway, and takes down what tunnels begin with.
type tap struct {
	URL string // of the proxy, for clients

	mu     sync.Mutex
	hellos map[string][]tlshello.Hello // by what CONNECT asked for
}

func (o *outside) tap(t testing.TB) *tap {
	t.Helper()
	l := o.Client.Listen(nettest.ClientV4 + ":0")
	p := &tap{URL: "http://" + l.Addr().String(), hellos: map[string][]tlshello.Hello{}}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				up, err := o.Client.DialContext(t.Context(), "tcp", nettest.PodV4+":8080")
				if err != nil {
					return
				}
				defer up.Close()
				open.Go(func() { io.Copy(c, up); c.Close() })
				p.pass(up, c)
				up.(*net.TCPConn).CloseWrite()
			})
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
	return p
}

// pass passes on what a client says, and looks for a ClientHello behind its CONNECT.
func (p *tap) pass(to io.Writer, from io.Reader) {
	var all []byte
	b := make([]byte, 32<<10)
	for seen := false; ; {
		n, err := from.Read(b)
		if !seen {
			all = append(all, b[:n]...)
			if head, first, ok := strings.Cut(string(all), "\r\n\r\n"); ok && strings.HasPrefix(head, "CONNECT ") {
				if hello, err := tlshello.Parse([]byte(first)); err == nil {
					seen = true
					p.mu.Lock()
					p.hellos[strings.Fields(head)[1]] = append(p.hellos[strings.Fields(head)[1]], hello)
					p.mu.Unlock()
				}
			}
		}
		if _, failed := to.Write(b[:n]); failed != nil || err != nil {
			return
		}
	}
}

// Chromium pretends in each hello that there may be another within (GREASE ECH). In a tunnel that is opened, and
// in one that is checked, that is no reason for anything; of the latter it is counted. A real ECH it has never by a
// proxy: it learns the keys from DNS, which it does not ask then.
func TestChromiumPretendsECH(t *testing.T) {
	nettest.Need(t, "chromium")
	nettest.Need(t, "certutil")
	o := newInspected(t, "\n  - host: api.example.com\n    requests: |\n      *\n", "--tunnel-check", "enforce")
	p := o.tap(t)
	db := filepath.Join(t.TempDir(), "home")
	ask := func(url string) program.Output {
		return program.Command(t, o.Client, []string{"https_proxy=" + p.URL, "own=" + o.CA, "roots=" + o.outside.CA.File, "home=" + db}, "sh", "-ec",
			"mkdir -p $home/.pki/nssdb && export HOME=$home && cd $home && certutil -d sql:$HOME/.pki/nssdb -N --empty-password\n"+
				"for ca in $own $roots; do certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n $ca -i $ca; done\n"+browser+"'"+url+"'; rm -rf $home")
	}
	const count = "sluice_tunnel_ech_total"
	for _, c := range []struct {
		url, target string
		counted     bool
	}{{trusted, "api.example.com:443", false}, {blind, "other.example.com:443", true}} {
		before := o.g.Metric(count)
		got := ask(c.url + "/")
		require.Contains(t, got.Out, "server-a saw "+nettest.SourceV4, got.Err)
		p.mu.Lock()
		hellos := p.hellos[c.target]
		p.mu.Unlock()
		require.NotEmpty(t, hellos)
		for _, h := range hellos {
			assert.True(t, h.ECH, c.url)
			assert.Equal(t, strings.TrimSuffix(c.target, ":443"), h.ServerName)
		}
		want, err := strconv.Atoi(before)
		require.NoError(t, err)
		if c.counted {
			want += len(hellos)
		}
		nettest.Eventually(t, "it is counted", func() bool { return o.g.Metric(count) == strconv.Itoa(want) })
		nettest.Eventually(t, "they are checked", func() bool {
			return o.g.Metric(`sluice_tunnel_checks_total{result="pass"}`) == strconv.Itoa(want)
		})
	}
}
