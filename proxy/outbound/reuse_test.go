package outbound

import (
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/proxy/proxytest"
)

// Nothing is left in a Conn of the connection that it was.
func TestReleaseForgets(t *testing.T) {
	c := conns.New().(*Conn)
	proxytest.Dirty(t, &c.connLife)
	c.TLS, c.pool = nil, nil // else it is not used again
	c.Release()
	for _, name := range proxytest.Left(c, conns.New()) {
		if name != "TCP" && !strings.HasPrefix(name, "socket.") { // its own, which begins anew by Init
			t.Errorf("%s is left", name)
		}
	}
}
