//go:build linux

package netsetup

import (
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/netsetup"
)

const (
	gatewayV4, gatewayV6 = "198.51.100.1", "2001:db8:1::1"
	theGroup             = "198-51-100-50"
)

// in runs f in the namespace. f may fail the test.
func in(t *testing.T, n *nettest.Netns, f func()) {
	t.Helper()
	require.NoError(t, n.Do(func() error { f(); return nil }))
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return l
}

// change adds or deletes addresses, "ADDR/LEN" each. It runs in the namespace.
func change(t *testing.T, name string, f func(netlink.Link, *netlink.Addr) error, addrs ...string) {
	t.Helper()
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		require.NoError(t, err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		require.NoError(t, f(link(t, name), a))
	}
}

// pod is an egress pod in which `sluice-netsetup hold` runs.
type pod struct {
	*nettest.Topology
	t      *testing.T
	socket string
	prom   string
	cmd    *exec.Cmd
	stderr *logged
	done   chan error
}

type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// bare is a topology whose egress pod has no source addresses.
func bare(t *testing.T) *nettest.Topology {
	t.Helper()
	p := nettest.NewTopology(t)
	in(t, p.Egress, func() {
		change(t, "macvlan0", netlink.AddrDel, nettest.SourceV4+"/24", nettest.SourceV6+"/64")
	})
	return p
}

// newPod starts the program in a pod of its own.
func newPod(t *testing.T, env ...string) *pod {
	t.Helper()
	dir := t.TempDir()
	p := &pod{Topology: bare(t), t: t, socket: filepath.Join(dir, "s"), prom: filepath.Join(dir, "prom")}
	p.start(env...)
	return p
}

func (p *pod) start(env ...string) {
	p.t.Helper()
	p.launch(env...)
	nettest.Eventually(p.t, "ready: "+p.stderr.String(), func() bool {
		select {
		case err := <-p.done:
			p.t.Fatalf("it has ended (%v): %s", err, p.stderr)
		default:
		}
		return strings.Contains(p.stderr.String(), "ready to hold")
	})
}

func (p *pod) launch(env ...string) {
	p.t.Helper()
	cmd := exec.Command(program.Netsetup(p.t), "hold")
	cmd.Env = append([]string{"EGRESS_ROUTER_MODE=http-proxy", "EGRESS_GATEWAY=" + gatewayV4 + " " + gatewayV6,
		"EGRESS_SOURCE=" + nettest.SourceV4 + "/24 " + nettest.SourceV6 + "/64",
		"SLUICE_HOLD_SOCKET=" + p.socket, "SLUICE_METRICS_FILE=" + p.prom}, env...)
	said, done := &logged{}, make(chan error, 1)
	cmd.Stderr = said
	require.NoError(p.t, p.Egress.Start(cmd))
	go func() { done <- cmd.Wait() }()
	p.cmd, p.stderr, p.done = cmd, said, done
	p.t.Cleanup(func() { cmd.Process.Kill() })
}

// ended waits until the program has ended, and returns its status.
func (p *pod) ended() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.t.Fatalf("it has not ended: %s", p.stderr)
		return 0
	}
}

// caller is a client whose calls may fail the test.
type caller struct {
	*holding.Client
	t *testing.T
}

func (p *pod) client() *caller {
	p.t.Helper()
	c, err := holding.Dial(p.t.Context(), p.socket, "test")
	require.NoError(p.t, err)
	p.t.Cleanup(c.Close)
	return &caller{c, p.t}
}

var (
	nonceMu   sync.Mutex
	lastNonce uint32
)

func nonce() (n holding.Nonce) {
	nonceMu.Lock()
	defer nonceMu.Unlock()
	lastNonce++
	n[0], n[1], n[2] = byte(lastNonce>>16), byte(lastNonce>>8), byte(lastNonce)
	return n
}

// hold holds the group for v.
func (c *caller) hold(group string, v time.Duration, renewing bool) {
	c.t.Helper()
	n := nonce()
	require.NoError(c.t, c.Prepare(c.t.Context(), group, n, time.Second))
	require.NoError(c.t, c.Commit(c.t.Context(), group, n, v, renewing))
}

// group is what the server knows of a group.
func (c *caller) group(name string) holding.Group {
	c.t.Helper()
	s, err := c.Status(c.t.Context())
	require.NoError(c.t, err)
	for _, g := range s.Groups {
		if g.Name == name {
			return g
		}
	}
	c.t.Fatalf("no group %s in %+v", name, s)
	return holding.Group{}
}

// event is the next event of a kind.
func (c *caller) event(kind holding.Kind) holding.Event {
	c.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-c.Events():
			require.True(c.t, ok, "the connection has ended: %v", c.Err())
			if e.Kind == kind {
				return e
			}
		case <-limit:
			c.t.Fatalf("no event %s", kind)
		}
	}
}

// served reports whether connections from the sources reach a server, by family.
func (p *pod) served() (v4, v6 bool) {
	p.t.Helper()
	dial := func(from, to string) bool {
		d := net.Dialer{FallbackDelay: -1, Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: netip.MustParseAddr(from).AsSlice()}}
		return p.Egress.Do(func() error {
			c, err := d.Dial("tcp", net.JoinHostPort(to, "80"))
			if err == nil {
				c.Close()
			}
			return err
		}) == nil
	}
	return dial(nettest.SourceV4, nettest.ServerAV4), dial(nettest.SourceV6, nettest.ServerAV6)
}

func (p *pod) serve() {
	p.t.Helper()
	for _, a := range []string{nettest.ServerAV4, nettest.ServerAV6} {
		l := p.ServerA.Listen(net.JoinHostPort(a, "80"))
		p.t.Cleanup(func() { l.Close() })
	}
}

// sources are the source addresses that are there, with their lifetimes in seconds.
func (p *pod) sources() map[string]int {
	p.t.Helper()
	all := map[string]int{}
	in(p.t, p.Egress, func() {
		addrs, err := netlink.AddrList(link(p.t, "macvlan0"), netlink.FAMILY_ALL)
		require.NoError(p.t, err)
		for _, a := range addrs {
			if a.IP.IsGlobalUnicast() {
				all[a.IPNet.String()] = a.ValidLft
			}
		}
	})
	return all
}

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
	require.Contains(t, p.stderr.String(), "no reply of 2001:db8:1::1 has come back to 2001:db8:1::50")
}

// SIGTERM waits for the proxy's end; then nothing is left behind.
func TestHoldEnds(t *testing.T) {
	p := newPod(t)
	c := p.client()
	c.hold(theGroup, 20*time.Second, false)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	nettest.Eventually(t, "it has seen the signal", func() bool { return strings.Contains(p.stderr.String(), "this waits for the end of the proxy") })
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

// done is closed when the connection has ended.
func (c *caller) done() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		for range c.Events() {
		}
		close(done)
	}()
	return done
}

// An address that somebody else has put there is an error that says who may have.
func TestHoldPresent(t *testing.T) {
	p := &pod{Topology: bare(t), t: t, socket: filepath.Join(t.TempDir(), "s")}
	in(t, p.Egress, func() { change(t, "macvlan0", netlink.AddrAdd, nettest.SourceV4+"/24") })
	p.launch()
	require.Equal(t, 1, p.ended())
	require.Contains(t, p.stderr.String(), "sluice-netsetup: EGRESS_SOURCE 198.51.100.50 is on macvlan0 already, and no fence was there before it, so that two pods may answer for it; Multus puts it there when")
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

func keys(m map[string]int) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// tables are the tables of nft in the namespace that the fence may have left.
func tables(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(nettest.Need(t, "nft"), "list", "tables").CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}
