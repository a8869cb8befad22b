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
