package tcp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// A client that resets while its destination is connected to leaves nothing behind, and
// nothing is held against the destination.
func TestClientGoesBeforeItIsConnected(t *testing.T) {
	dead, _ := nettest.FullQueue(t)
	budget := fdbudget.New(100)
	r := start(t, func(o *Options) { o.Budget = budget })
	r.config.ConnectTimeout = time.Hour
	l := listener(t, dead.String())
	l.Check = Check{}
	r.must(l)
	c := r.connect(0)
	nettest.Eventually(t, "it is being connected", func() bool {
		open := r.Open()
		return len(open) == 1 && open[0].State == door.Request
	})
	c.SetLinger(0)
	c.Close()
	nettest.Eventually(t, "its descriptors are free", func() bool { return budget.Left() == 100 })
	assert.Equal(t, "the client has gone", r.last(1).Error)
	assert.True(t, r.Ready(), "the address is not to blame")
}
