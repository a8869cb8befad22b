package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// A request inside a tunnel that was asked for by an address is revoked as any other.
func TestInsideRevokedByAddress(t *testing.T) {
	const rules = "api.test\n127.0.0.1 #@ protocol=tls"
	release := make(chan struct{})
	g := startInside(t, []string{"http/1.1"}, func(http.ResponseWriter, *http.Request) { <-release }, nil)
	t.Cleanup(func() { close(release) })
	for _, by := range []string{g.target, "127.0.0.1:" + portOf(g.target)} {
		g.check(t, policy.CheckLog, rules)
		c := g.byAddress(t, by)
		s := tls.Client(c.TCPConn, &tls.Config{ServerName: "api.test", RootCAs: g.roots})
		fmt.Fprintf(s, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", g.target)
		nettest.Eventually(t, "it has its server", func() bool { o := g.Open(); return len(o) == 1 && o[0].State == door.Request && o[0].Addr.IsValid() })
		g.check(t, policy.CheckLog, "!api.test\n"+rules)
		assert.Equal(t, 1, g.Revoke(), by)
		resp, err := http.ReadResponse(bufio.NewReader(s), nil)
		require.NoError(t, err)
		assert.Equal(t, 403, resp.StatusCode)
		c.Close()
		nettest.Eventually(t, "it has ended", func() bool { return len(g.Open()) == 0 })
	}
}

// At a port of which nothing is said a host whose requests are asked about is reached by no TLS: neither
// the client's nor the gateway's, nor by a tunnel that was there before.
func TestInspectedElsewhere(t *testing.T) {
	server, heads := asked(t)
	port := portOf(server.String())
	g := start(t, movedRules, loopbackNames, nil)
	open := g.dial(t)
	open.send(t, "CONNECT a.test:%s HTTP/1.1\r\n\r\n", port)
	require.Contains(t, open.head(t), " 200 ")
	nettest.Eventually(t, "it is a tunnel", func() bool { o := g.Open(); return len(o) == 1 && o[0].State == door.Tunnel })
	g.inspects(t, "a.test", policy.CheckOff)
	assert.Equal(t, 1, g.Revoke())
	open.closed(t)
	assert.Empty(t, <-heads)
	for _, ahead := range []string{"", prefix} {
		for _, ask := range []string{"CONNECT a.test:%s HTTP/1.1\r\n\r\n", "GET https://a.test:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET https://A.test.:%s/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
			c := g.dial(t)
			c.send(t, ahead+ask, port)
			if ahead != "" {
				c.response(t, "GET")
			}
			assert.Contains(t, c.head(t), "HTTP/1.1 403 Egress denied: requests to this host are asked what they may do, and a tunnel to another port", ask)
		}
	}
}
