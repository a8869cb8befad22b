package sock_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Nothing is left in a Conn of the connection that it was.
func TestInitForgets(t *testing.T) {
	remote := netip.MustParseAddrPort("192.0.2.1:80")
	used, fresh := new(sock.Conn), sock.New(7, remote)
	nettest.Dirty(t, used)
	used.Init(7, remote)
	for _, name := range nettest.Left(used, fresh) {
		assert.Equal(t, "outFn", name) // bound to it
	}
}
