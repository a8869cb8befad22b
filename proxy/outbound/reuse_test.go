package outbound

import (
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// Nothing is left in a Conn of the connection that it was.
func TestReleaseForgets(t *testing.T) {
	c := conns.New().(*Conn)
	nettest.Dirty(t, &c.connLife, poll.Handler(c), Session(&shared{}))
	c.TLS, c.pool = nil, nil // else it is not used again
	c.Release()
	for _, name := range nettest.Left(c, conns.New()) {
		if name != "TCP" && !strings.HasPrefix(name, "socket.") { // its own, which begins anew by Init
			t.Errorf("%s is left", name)
		}
	}
}
