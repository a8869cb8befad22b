package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// A client of SOCKS goes by parents as one of CONNECT does.
func TestParentSocks(t *testing.T) {
	t.Parallel()
	echo := greeter(t, "hello")
	p := newParent(t, nil, goes)
	g := startSocks(t, "", loopbackNames, nil)
	for _, byName := range []bool{false, true} {
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}, ByName: byName})
		c := g.dial(t)
		says(t, c, greets+asksFor(fmt.Sprintf("a.test:%d", echo.Port())))
		hears(t, c, ok+made+"hello")
		at := echo.String()
		if byName {
			at = fmt.Sprintf("a.test:%d", echo.Port())
		}
		assert.Equal(t, []string{"CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nVia: 1.1 sluice-test\r\n\r\n"}, p.got())
	}
	g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{newParent(t, nil, answering("HTTP/1.1 403 no\r\n\r\n")).parent(t, nil, "")}})
	c := g.dial(t)
	says(t, c, greets+asksFor("a.test:443"))
	hears(t, c, ok+reply(2))
}

// A protocol that a server switches to goes on through the parent.
func TestParentUpgrade(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for line := ""; line != "\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					break
				}
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
			io.Copy(c, r)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	g := start(t, "", loopbackNames, nil)
	g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{newParent(t, nil, goes).parent(t, nil, "")}})
	c := g.dial(t)
	c.send(t, "GET http://a.test:%d/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly", port)
	assert.True(t, strings.HasPrefix(c.head(t), "HTTP/1.1 101 "))
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "firstearly", string(b))
}

// Requests inside an opened tunnel go by the parent, each end verified by the gateway.
func TestParentInspected(t *testing.T) {
	t.Parallel()
	roots := nettest.NewCA(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{roots.Issue("a.test")}})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			head := ""
			for !strings.HasSuffix(head, "\r\n\r\n") {
				line, err := r.ReadString('\n')
				if err != nil {
					break
				}
				head += line
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(head), head)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	cert, key, err := ca.Make("test", []string{"a.test"}, nil, time.Now().Add(time.Hour))
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	authority, err := ca.New(pair)
	require.NoError(t, err)
	rules, err := request.ParseNamed("", 1, "GET /**", request.Options{})
	require.NoError(t, err)
	in, err := policy.NewInspect([]policy.Inspected{{Host: fmt.Sprintf("a.test:%d", port), Requests: rules}})
	require.NoError(t, err)
	in.Certificate = authority.Certificate
	for _, byName := range []bool{false, true} {
		p := newParent(t, nil, goes)
		g := start(t, "", loopbackNames, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots.Pool} })
		g.tenant.Inspect = in
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "Bearer of-the-gateway")}, ByName: byName})
		c, status := g.tunnelTo(t, fmt.Sprintf("a.test:%d", port))
		require.Equal(t, "HTTP/1.1 200 Connection established", status)
		assert.Empty(t, p.got(), "nothing leaves before a request is judged")
		secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test"})
		fmt.Fprintf(secure, "GET /x HTTP/1.1\r\nHost: a.test:%d\r\n\r\n", port)
		b, err := io.ReadAll(io.LimitReader(secure, 200))
		require.NoError(t, err)
		assert.Contains(t, string(b), "GET /x HTTP/1.1\r\n")
		assert.NotContains(t, string(b), "of-the-gateway")
		got := p.got()
		require.Len(t, got, 1)
		host := "127.0.0.1"
		if byName {
			host = "a.test"
		}
		assert.True(t, strings.HasPrefix(got[0], fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\n", host, port)), got[0])
	}
}
