package tunnel

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

type handler struct{ poll.Handler }

// A tunnel that is started anew knows nothing of the one before, whatever fields it comes
// to have; and what a direction has held is given back empty.
func TestReuseForgets(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	fresh := start(t, p)
	used := &relayed{result: make(chan Result, 1), pump: p}
	nettest.Dirty(t, &used.Tunnel, Hooks(fresh), handler{})
	var client, server Side
	used.client, client.Conn = near(t)
	used.server, server.Conn = near(t)
	p.Start(&used.Tunnel, client, server, used)
	used.mu.Lock()
	fresh.mu.Lock()
	left := nettest.Left(&used.life, &fresh.life)
	fresh.mu.Unlock()
	used.mu.Unlock()
	assert.Subset(t, []string{"hooks", "loops", "fds"}, left, "but for these they are alike: each has its own")
	for _, r := range []*relayed{used, fresh} {
		require.True(t, r.Cut())
		<-r.result
	}

	w := way{cargo: new(cargo)}
	c := w.cargo
	nettest.Dirty(t, c)
	c.pipe = p.pipes.get()
	w.release(p)
	assert.Empty(t, nettest.Left(c, new(cargo)))

	var f Flow
	nettest.Dirty(t, &f)
	p.NewFlow(&f, 7, func() {})
	var other Flow
	p.NewFlow(&other, 7, func() {})
	assert.Empty(t, nettest.Left(&f, &other))
}
