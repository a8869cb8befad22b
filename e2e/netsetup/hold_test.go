//go:build linux

package netsetup

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/netsetup"
)

// From the first look to the end: what is held speaks, is announced and gets replies, and
// what is let go is away; and again.
func TestHold(t *testing.T) {
	p := newPod(t)
	p.serve()
	c := p.client()
	ctx := t.Context()
	s, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, holding.Status{Version: "dev", Groups: []holding.Group{{Name: theGroup, Up: true,
		Addrs: []netip.Addr{netip.MustParseAddr(nettest.SourceV4), netip.MustParseAddr(nettest.SourceV6)}}}}, s)
	require.Equal(t, theGroup, holding.GroupName(s.Groups[0].Addrs))
	for range 2 {
		begun := time.Now()
		checked, err := c.Check(ctx, theGroup, true)
		require.NoError(t, err)
		require.Equal(t, holding.Checked{Up: true, Gateway: true, Alone: true}, checked)
		require.GreaterOrEqual(t, time.Since(begun), 400*time.Millisecond)
		require.Empty(t, p.sources())

		// Both routers have another's address for the sources: only what announces the
		// addresses, or asks from them, tells them otherwise.
		c.hold(theGroup, 20*time.Second, false)
		g := c.group(theGroup)
		require.InDelta(t, 20*time.Second, time.Duration(g.Held), float64(5*time.Second))
		require.True(t, g.Present)
		lifetimes := p.sources()
		require.Len(t, lifetimes, 2)
		for a, left := range lifetimes {
			require.InDelta(t, 57, left, 3, a)
		}
		replies, err := c.Probe(ctx, theGroup)
		require.NoError(t, err)
		require.True(t, replies, p.stderr)
		v4, v6 := p.served()
		require.True(t, v4 && v6)
		checked, err = c.Check(ctx, theGroup, false)
		require.NoError(t, err)
		require.Equal(t, holding.Checked{Up: true, Gateway: true}, checked)
		checked, err = c.Check(ctx, theGroup, true)
		require.NoError(t, err)
		require.True(t, checked.Alone, "we are not somebody else")
		c.hold(theGroup, 30*time.Second, true)
		require.Greater(t, time.Duration(c.group(theGroup).Held), 20*time.Second)

		require.NoError(t, c.LetGo(ctx, theGroup))
		require.Empty(t, p.sources())
		require.Equal(t, holding.Millis(0), c.group(theGroup).Held)
		require.NoError(t, c.LetGo(ctx, theGroup), "twice")
	}
	require.NotContains(t, p.stderr.String(), `"ERROR"`)
}

// What comes too late is refused, and brings no address; what is not renewed is fenced, and
// told so, and can be held again, while connections live on.
func TestHoldTooLate(t *testing.T) {
	p := newPod(t)
	p.serve()
	c := p.client()
	ctx := t.Context()
	require.ErrorIs(t, c.Commit(ctx, theGroup, nonce(), time.Second, false), holding.ErrRefused)
	require.Empty(t, p.sources())
	n := nonce()
	require.NoError(t, c.Prepare(ctx, theGroup, n, time.Second))
	require.ErrorIs(t, c.Commit(ctx, theGroup, n, time.Second, true), holding.ErrRefused, "it is not held")
	require.Empty(t, p.sources())
	require.ErrorContains(t, c.Prepare(ctx, theGroup, nonce(), 5*time.Millisecond), "the shortest time that the fence takes is 10ms")
	require.ErrorContains(t, c.Prepare(ctx, "other", nonce(), time.Second), `there is no group "other", but 198-51-100-50: `)

	c.hold(theGroup, 300*time.Millisecond, false)
	require.Equal(t, theGroup, c.event(holding.Expired).Group)
	require.Len(t, p.sources(), 2, "the addresses stay")
	v4, v6 := p.served()
	require.False(t, v4 || v6)
	n = nonce()
	require.NoError(t, c.Prepare(ctx, theGroup, n, time.Second))
	require.ErrorIs(t, c.Commit(ctx, theGroup, n, time.Second, true), holding.ErrRefused, "it is not held any more")
	require.Len(t, p.sources(), 2, "the addresses stay")
	c.hold(theGroup, 20*time.Second, false)
	v4, v6 = p.served()
	require.True(t, v4 && v6)
}

// Who else has the address is found before it is held, and ends it while it is held.
func TestHoldForeign(t *testing.T) {
	p := newPod(t)
	c := p.client()
	var mac string
	in(t, p.Gateway, func() { mac = link(t, "lan0").Attrs().HardwareAddr.String() })
	for _, addr := range []string{nettest.SourceV4 + "/32", nettest.SourceV6 + "/128"} {
		c.hold(theGroup, 20*time.Second, false)
		prefix := netip.MustParsePrefix(addr)
		in(t, p.Gateway, func() { // it is given to another host by mistake
			change(t, "lan0", netlink.AddrAdd, addr)
			require.NoError(t, netsetup.Announce(t.Context(), []netsetup.Addr{{Link: "lan0", Prefix: prefix}}, 0))
		})
		e := c.event(holding.Foreign)
		require.Equal(t, holding.Event{Kind: holding.Foreign, Group: theGroup, Addr: prefix.Addr(), By: mac, Link: "macvlan0"}, e)
		require.Empty(t, p.sources())
		require.Zero(t, c.group(theGroup).Held)
		checked, err := c.Check(t.Context(), theGroup, true)
		require.NoError(t, err)
		require.Equal(t, holding.Checked{Up: true, Gateway: true, By: mac,
			Why: "the host with MAC address " + mac + " has " + prefix.Addr().String() + " too, seen on macvlan0 (a router that answers for every address wants --probe=false)"}, checked)
		in(t, p.Gateway, func() { change(t, "lan0", netlink.AddrDel, addr) })
	}
}

// A gateway that is silent, and an interface that is down, are told.
func TestHoldWithoutLink(t *testing.T) {
	p := newPod(t)
	c := p.client()
	ctx := t.Context()
	in(t, p.Gateway, func() { change(t, "lan0", netlink.AddrDel, gatewayV6+"/64") })
	begun := time.Now()
	checked, err := c.Check(ctx, theGroup, false)
	require.NoError(t, err)
	require.Equal(t, holding.Checked{Up: true, Why: "gateway 2001:db8:1::1 does not answer on macvlan0"}, checked)
	require.InDelta(t, 400*time.Millisecond, time.Since(begun), float64(300*time.Millisecond))
	in(t, p.Node, func() { require.NoError(t, netlink.LinkSetDown(link(t, "phys0"))) })
	require.Equal(t, holding.Event{Kind: holding.Down, Group: theGroup, Link: "macvlan0"}, c.event(holding.Down))
	checked, err = c.Check(ctx, theGroup, true)
	require.NoError(t, err)
	require.Equal(t, holding.Checked{Why: "interface macvlan0 is not up; interface macvlan0 is not up"}, checked)
	require.False(t, c.group(theGroup).Up)
	in(t, p.Node, func() { require.NoError(t, netlink.LinkSetUp(link(t, "phys0"))) })
	c.event(holding.Up)
}

// A neighbour that keeps another MAC address is found out: no reply comes back.
func TestHoldNoReply(t *testing.T) {
	p := newPod(t)
	c := p.client()
	in(t, p.Gateway, func() {
		require.NoError(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link(t, "lan0").Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: netip.MustParseAddr(nettest.SourceV6).AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
	})
	c.hold(theGroup, 20*time.Second, false)
	replies, err := c.Probe(t.Context(), theGroup)
	require.NoError(t, err)
	require.False(t, replies)
	nettest.Eventually(t, "it says who does not reply", func() bool {
		return strings.Contains(p.stderr.String(), "no reply of 2001:db8:1::1 has come back to 2001:db8:1::50")
	})
}

// SIGTERM waits for the proxy's end; then nothing is left behind.
func TestHoldEnds(t *testing.T) {
	p := newPod(t)
	c := p.client()
	c.hold(theGroup, 20*time.Second, false)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	nettest.Eventually(t, "it has seen the signal", func() bool { return strings.Contains(p.stderr.String(), "this waits for the end of the proxy") })
	time.Sleep(500 * time.Millisecond) // for which it goes on, and for longer
	c.hold(theGroup, 20*time.Second, true)
	require.NoError(t, c.Ended(t.Context()))
	require.Zero(t, p.ended(), p.stderr)
	require.Empty(t, p.sources())
	in(t, p.Egress, func() { require.Empty(t, tables(t)) })

	// Told first of the proxy's end, it ends by the signal.
	p.start()
	c = p.client()
	require.NoError(t, c.Ended(t.Context()))
	require.Zero(t, c.group(theGroup).Held, "it stays")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.ended(), p.stderr)

	// With nobody there to tell, it ends when nothing is held any more.
	p.start()
	c = p.client()
	c.hold(theGroup, 300*time.Millisecond, false)
	c.Close()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.ended(), p.stderr)
}

// Killed, what it held is held for as long as it was to be, and by the next that runs.
func TestHoldKilled(t *testing.T) {
	p := newPod(t)
	p.serve()
	c := p.client()
	c.hold(theGroup, 20*time.Second, false)
	require.NoError(t, p.cmd.Process.Kill())
	p.ended()
	<-c.done()
	require.ErrorIs(t, c.Err(), holding.ErrDisconnected)
	require.ErrorIs(t, c.LetGo(t.Context(), theGroup), holding.ErrDisconnected)
	v4, v6 := p.served()
	require.True(t, v4 && v6)
	p.start()
	c = p.client()
	require.True(t, c.group(theGroup).Present)
	c.hold(theGroup, 20*time.Second, true)
	v4, v6 = p.served()
	require.True(t, v4 && v6)
	require.NoError(t, p.cmd.Process.Kill())
	p.ended()
	// The settings have changed meanwhile: the address that is no source any more stays fenced.
	p.start("EGRESS_SOURCE="+nettest.SourceV4+"/24", "EGRESS_GATEWAY="+gatewayV4)
	nettest.Eventually(t, "what was held before has expired, or was taken away", func() bool {
		_, v6 := p.served()
		return !v6
	})
	assert.Contains(t, p.sources(), nettest.SourceV4+"/32")
}

// Groups of a pool are held each by itself.
func TestHoldPool(t *testing.T) {
	p := newPod(t, "EGRESS_SOURCE=", "EGRESS_POOL="+nettest.SourceV4+"/24,"+nettest.SourceV6+"/64 198.51.100.51/24")
	c := p.client()
	c.hold("198-51-100-51", 20*time.Second, false)
	require.Equal(t, []string{"198.51.100.51/32"}, keys(p.sources()))
	require.Zero(t, c.group(theGroup).Held)
	c.hold(theGroup, 20*time.Second, false)
	require.NoError(t, c.LetGo(t.Context(), "198-51-100-51"))
	require.ElementsMatch(t, []string{nettest.SourceV4 + "/32", nettest.SourceV6 + "/128"}, keys(p.sources()))
}

// Frozen between the question and its answer, it holds nothing when it goes on: the attempt
// has expired meanwhile, and the kernel knows.
func TestHoldFrozen(t *testing.T) {
	p := newPod(t)
	p.serve()
	c := p.client()
	for _, renewing := range []bool{false, true} {
		if renewing {
			c.hold(theGroup, 300*time.Millisecond, false)
		}
		n := nonce()
		require.NoError(t, c.Prepare(t.Context(), theGroup, n, 300*time.Millisecond))
		p.freeze()
		got := make(chan error, 1)
		go func() { got <- c.Commit(t.Context(), theGroup, n, 20*time.Second, renewing) }()
		time.Sleep(350 * time.Millisecond)
		v4, v6 := p.served()
		require.False(t, v4 || v6)
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
		require.ErrorIs(t, <-got, holding.ErrRefused)
		v4, v6 = p.served()
		require.False(t, v4 || v6)
	}
}

// What is held is announced at once, after a second and after two, in every form; what is let
// go is not any more.
func TestHoldAnnounced(t *testing.T) {
	p := newPod(t)
	c := p.client()
	var mac net.HardwareAddr
	var heard *netsetup.Wire
	in(t, p.Egress, func() { mac = link(t, "macvlan0").Attrs().HardwareAddr })
	times := map[string][]time.Duration{}
	var listening sync.WaitGroup
	var mu sync.Mutex
	begun := time.Now()
	limit := begun.Add(6 * time.Second) // it would be announced after five seconds again
	for _, addr := range []string{nettest.SourceV4, nettest.SourceV6} {
		in(t, p.Gateway, func() {
			var err error
			heard, err = netsetup.OpenWire("lan0", netip.MustParseAddr(addr))
			require.NoError(t, err)
		})
		w := heard
		t.Cleanup(w.Close)
		listening.Go(func() {
			assert.NoError(t, w.Hear(limit, func(h netsetup.Heard) bool {
				if h.Addr.String() == addr && !h.Asks {
					mu.Lock()
					defer mu.Unlock()
					assert.Equal(t, mac.String(), h.MAC.String())
					times[addr] = append(times[addr], time.Since(begun))
				}
				return true
			}))
		})
	}
	c.hold(theGroup, 20*time.Second, false)
	mu.Lock()
	begun = time.Now()
	mu.Unlock()
	nettest.Eventually(t, "three rounds", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(times[nettest.SourceV4]) >= 6 && len(times[nettest.SourceV6]) >= 3
	})
	require.NoError(t, c.LetGo(t.Context(), theGroup))
	listening.Wait()
	require.Len(t, times[nettest.SourceV4], 6, "both forms")
	require.Len(t, times[nettest.SourceV6], 3)
	for i, at := range times[nettest.SourceV6] {
		require.InDelta(t, time.Duration(i)*time.Second, at, float64(500*time.Millisecond))
	}
}

// The metrics file says what happened.
func TestHoldMetrics(t *testing.T) {
	p := newPod(t)
	c := p.client()
	c.hold(theGroup, 20*time.Second, false)
	c.hold(theGroup, 20*time.Second, true)
	require.Error(t, c.Commit(t.Context(), theGroup, nonce(), time.Second, true))
	var text []byte
	nettest.Eventually(t, "the file has it", func() bool {
		text, _ = os.ReadFile(p.prom)
		return strings.Contains(string(text), `sluice_hold_refused_total{group="198-51-100-50"} 1`)
	})
	for _, line := range []string{"held", "taken_total", "renewed_total"} {
		require.Contains(t, string(text), "sluice_hold_"+line+`{group="198-51-100-50"} 1`+"\n")
	}
	require.Contains(t, string(text), "sluice_hold_fence_weak 0\n")
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	docs, err := os.ReadFile("../../docs/netsetup.md")
	require.NoError(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			require.Contains(t, string(docs), "`"+strings.Fields(name)[0]+"`")
		}
	}
}
