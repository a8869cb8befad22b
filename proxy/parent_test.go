package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// parentProxy is a proxy that requests go by. It takes down the heads that it gets.
type parentProxy struct {
	l     net.Listener
	serve func(p *parentProxy, c net.Conn, r *bufio.Reader, head string)

	mu    sync.Mutex
	heads []string
	wg    sync.WaitGroup
	conns map[net.Conn]bool
}

// newParent starts one; config is for TLS, nil for none. serve serves a connection whose head came.
func newParent(t testing.TB, config *tls.Config, serve func(p *parentProxy, c net.Conn, r *bufio.Reader, head string)) *parentProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if config != nil {
		l = tls.NewListener(l, config)
	}
	p := &parentProxy{l: l, serve: serve, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = true
			p.mu.Unlock()
			p.wg.Go(func() { p.handle(c) })
		}
	})
	t.Cleanup(p.close)
	return p
}

func (p *parentProxy) close() {
	p.l.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *parentProxy) handle(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		p.mu.Lock()
		p.heads = append(p.heads, head)
		p.mu.Unlock()
		p.serve(p, c, r, head)
		if strings.HasPrefix(head, "CONNECT ") {
			return
		}
	}
}

// got are the heads that have come since it was asked for last.
func (p *parentProxy) got() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, p.heads = p.heads, nil
	return all
}

// goes makes a tunnel to where a CONNECT asks, and passes on requests for http; names lead to
// loopback.
func goes(p *parentProxy, c net.Conn, r *bufio.Reader, head string) {
	words := strings.Fields(head)
	at := words[1]
	absolute := words[0] != "CONNECT"
	if absolute {
		u, _ := url.Parse(at)
		at = u.Host
		if u.Port() == "" {
			at += ":80"
		}
	}
	_, port, _ := net.SplitHostPort(at)
	up, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer up.Close()
	if absolute {
		fmt.Fprintf(up, "%s / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-Seen: %s\r\n\r\n", words[0], at, words[1])
		b, _ := io.ReadAll(up)
		c.Write(b)
		return
	}
	io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		io.Copy(up, r)
		up.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	io.Copy(c, up)
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
	<-done
}

// answering answers each head with a text.
func answering(text string) func(*parentProxy, net.Conn, *bufio.Reader, string) {
	return func(_ *parentProxy, c net.Conn, _ *bufio.Reader, _ string) { io.WriteString(c, text) }
}

// parent is p as the policy has it.
func (p *parentProxy) parent(t testing.TB, config *tls.Config, login string) *policy.Parent {
	t.Helper()
	scheme := "http://"
	if config != nil {
		scheme = "https://"
	}
	at := netip.MustParseAddrPort(p.l.Addr().String())
	return policy.NewParent(scheme+at.String(), acl.HostFromAddr(at.Addr()), at.Port(), config, "", login)
}

var direct = &policy.Parent{Direct: true}

// by has the gateway go by ways.
func (g *gateway) by(t testing.TB, rules string, ways ...policy.Way) {
	t.Helper()
	p, err := policy.NewParents(ways)
	require.NoError(t, err)
	g.tenant.Parents = p
	g.rules(t, rules)
}

// greeter echoes what it gets, behind a greeting.
func greeter(t testing.TB, greeting string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				io.WriteString(c, greeting)
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

var loopbackNames = names{"a.test": {netip.MustParseAddr("127.0.0.1")}, "b.test": {netip.MustParseAddr("127.0.0.1")}}

// By address the parent is asked for the judged address; by name for the name, which nobody
// resolves; and a client's credentials for this gateway go nowhere.
func TestParentConnect(t *testing.T) {
	t.Parallel()
	echo := greeter(t, "")
	p := newParent(t, nil, goes)
	g := start(t, "*.test", loopbackNames, nil)
	for _, byName := range []bool{false, true} {
		for _, prefix := range []string{"", "\r\n"} { // on the loop, and on a goroutine
			g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "Basic Z2F0ZTpwYXNz")}, ByName: byName})
			c := g.dial(t)
			c.send(t, "%sCONNECT a.test:%d HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic Y2xpZW50OnB3\r\nX-Client: secret\r\nVia: 1.1 other\r\n\r\nhello", prefix, echo.Port())
			assert.Equal(t, "HTTP/1.1 200 Connection established\r\n\r\n", c.head(t))
			b := make([]byte, 5)
			_, err := io.ReadFull(c.r, b)
			require.NoError(t, err)
			assert.Equal(t, "hello", string(b))
			c.Close()
			at := echo.String()
			if byName {
				at = fmt.Sprintf("a.test:%d", echo.Port())
			}
			assert.Equal(t, []string{"CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nVia: 1.1 other\r\nVia: 1.1 sluice-test\r\nProxy-Authorization: Basic Z2F0ZTpwYXNz\r\n\r\n"}, p.got())
		}
		assert.True(t, g.wasAsked("a.test"))
		g.mu.Lock()
		assert.Len(t, g.asked, 1)
		g.mu.Unlock()
	}
	judged := 0 // of the tunnels; they may end in another order
	for _, line := range g.lines(t, 4) {
		assert.Contains(t, line, `,"source":"127.0.0.1","parent":"http://`+p.l.Addr().String()+`"`)
		if strings.Contains(line, `"address":"`+echo.String()+`"`) {
			judged++
		}
		assert.NotContains(t, line, "Z2F0ZTpwYXNz")
	}
	assert.Equal(t, 2, judged)
}

// By name nothing is looked up at all, and rules judge the name alone.
func TestParentByNameAsksNobody(t *testing.T) {
	t.Parallel()
	echo := greeter(t, "")
	p := newParent(t, nil, goes)
	g := start(t, "", nil, nil)
	g.by(t, "!127.0.0.0/8\n!bad.test\n*.test\nlocalhost\n*.localhost\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}, ByName: true})
	for host, want := range map[string]string{
		"a.test":          "HTTP/1.1 200 Connection established\r\n",
		"bad.test":        "HTTP/1.1 403 Egress denied: line 2 !bad.test\r\n",
		"other.example":   "HTTP/1.1 403 Egress denied: no rule allows it\r\n",
		"127.0.0.1":       "HTTP/1.1 403 Egress denied: line 1 !127.0.0.0/8\r\n",
		"localhost":       "HTTP/1.1 403 Egress denied: guard loopback\r\n",
		"db.localhost":    "HTTP/1.1 403 Egress denied: guard loopback\r\n",
		"evil.test.other": "HTTP/1.1 403 Egress denied: no rule allows it\r\n",
	} {
		c := g.dial(t)
		c.send(t, "CONNECT %s:%d HTTP/1.1\r\n\r\n", host, echo.Port())
		assert.Equal(t, want, c.head(t)[:len(want)], host)
		c.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	assert.Empty(t, g.asked)
}

// Requests by plain http go through a tunnel by address, with the server's name in Host alone, and
// in absolute form by name.
func TestParentForward(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get("X-Seen")+r.Header.Get("Proxy-Authorization"))
		io.WriteString(w, "here")
	}))
	defer srv.Close()
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	p := newParent(t, nil, goes)
	g := start(t, "", loopbackNames, nil)
	client := g.client(t)
	host := fmt.Sprintf("a.test:%d", port)
	for _, byName := range []bool{false, true} {
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "Bearer abc")}, ByName: byName})
		for range 3 {
			resp, err := client.Get("http://" + host + "/")
			require.NoError(t, err)
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			assert.Equal(t, "here", string(b))
		}
		got := p.got()
		if byName {
			require.Len(t, got, 3)
			assert.True(t, strings.HasPrefix(got[0], "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nProxy-Authorization: Bearer abc\r\n"), got[0])
			assert.Equal(t, 1, strings.Count(got[2], "Proxy-Authorization"))
			assert.Equal(t, []string{"GET / " + host + " http://" + host + "/"}, slices.Compact(seen))
		} else {
			require.Len(t, got, 1, "the connection is used again")
			assert.True(t, strings.HasPrefix(got[0], fmt.Sprintf("CONNECT 127.0.0.1:%d HTTP/1.1\r\n", port)), got[0])
			assert.Equal(t, []string{"GET / " + host + " "}, slices.Compact(seen))
		}
		mu.Lock()
		seen = nil
		mu.Unlock()
	}
}

// What a parent answers, and what the client is told.
func TestParentAnswers(t *testing.T) {
	t.Parallel()
	g := start(t, "", loopbackNames, nil)
	for answer, want := range map[string]string{
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n": "502 Bad Gateway: parent proxy URL: it does not take the gateway's credential (407)",
		"HTTP/1.1 403 Not \xffhere\r\nContent-Length: 5\r\n\r\nhello":                             "403 Forbidden: parent proxy URL: it refuses: 403 Not ",
		"HTTP/1.1 403 No\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n":                       "403 Forbidden: parent proxy URL: it refuses: 403 No",
		"HTTP/1.1 503 Nope\r\n\r\n":                                           "503 Service Unavailable: parent proxy URL: it does not get there: 503 Nope",
		"HTTP/1.1 404 Not Found\r\n\r\n":                                      "502 Bad Gateway: parent proxy URL: it answers CONNECT with 404 Not Found",
		"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n": "502 Bad Gateway: parent proxy URL: its answer to CONNECT: it switches protocols unasked",
		"SSH-2.0-x\r\n":             "502 Bad Gateway: parent proxy URL: its answer to CONNECT: malformed status line",
		"HTTP/1.1 200 ok\nX: y\n\n": "502 Bad Gateway: parent proxy URL: its answer to CONNECT: line ends in a bare LF, not CRLF",
		"HTTP/1.1 200 ok\r\nX: " + strings.Repeat("x", 20<<10):           "502 Bad Gateway: parent proxy URL: its answer to CONNECT: head larger than the limit",
		strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 2000):                   "502 Bad Gateway: parent proxy URL: its answer to CONNECT: head larger than the limit",
		"HTTP/1.1 200 ok\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n": "502 Bad Gateway: parent proxy URL: its answer to CONNECT: more header fields than the limit",
		"":                     "503 Service Unavailable: parent proxy URL: it has closed the connection without an answer to CONNECT",
		"HTTP/1.1 200 ok\r\nX": "503 Service Unavailable: parent proxy URL: it has closed the connection without an answer to CONNECT",
	} {
		p := newParent(t, nil, answering(answer))
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "Basic Z2F0ZTpwYXNz")}})
		c := g.dial(t)
		c.send(t, "CONNECT a.test:443 HTTP/1.1\r\n\r\n")
		head := c.head(t)
		want = "HTTP/1.1 " + strings.ReplaceAll(want, "URL", "http://"+p.l.Addr().String())
		assert.True(t, strings.HasPrefix(head, want), "%q\n%s\n%s", answer, head, want)
		assert.NotContains(t, head, "Z2F0ZTpwYXNz")
		assert.NotContains(t, head, "Proxy-Authenticate")
		assert.Equal(t, -1, strings.IndexFunc(head, func(r rune) bool { return r > '~' }), head)
		c.Close()
	}
}

// What the server says at once, in the same segment as the parent's answer, arrives whole, in
// whatever pieces it comes, and interim answers are passed over.
func TestParentServerFirst(t *testing.T) {
	t.Parallel()
	greeting := strings.Repeat("220 mail.test ESMTP ready\r\n", 3000)
	for _, secure := range []bool{false, true} {
		ca := nettest.NewCA(t)
		var config, trust *tls.Config
		if secure {
			config, trust = &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}}, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
		}
		for _, head := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.0 200 Connection established\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\nX: " + strings.Repeat("y", 5000) + "\r\n\r\n"} {
			p := newParent(t, config, func(_ *parentProxy, c net.Conn, r *bufio.Reader, _ string) {
				io.WriteString(c, head+greeting)
				io.Copy(c, r)
			})
			g := start(t, "", loopbackNames, nil)
			g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, trust, "")}})
			c := g.dial(t)
			c.send(t, "CONNECT a.test:25 HTTP/1.1\r\n\r\n")
			require.Equal(t, "HTTP/1.1 200 Connection established\r\n\r\n", c.head(t))
			b := make([]byte, len(greeting))
			_, err := io.ReadFull(c.r, b)
			require.NoError(t, err)
			assert.Equal(t, greeting, string(b))
			c.send(t, "quit")
			require.NoError(t, c.CloseWrite())
			rest, err := io.ReadAll(c.r)
			require.NoError(t, err)
			assert.Equal(t, "quit", string(rest))
		}
	}
}
