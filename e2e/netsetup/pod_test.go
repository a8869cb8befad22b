//go:build linux

package netsetup

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/nettest"
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

// freeze stops the program, and waits until none of its threads runs: on a busy machine one may
// go on for a while after the signal.
func (p *pod) freeze() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGSTOP))
	nettest.Eventually(p.t, "it is frozen", func() bool {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		require.NoError(p.t, err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(p.t, err)
			if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return len(files) > 0
	})
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
