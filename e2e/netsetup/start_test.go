//go:build linux

package netsetup

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// An address that somebody else has put there is an error that says who may have.
func TestHoldPresent(t *testing.T) {
	p := &pod{Topology: bare(t), t: t, socket: filepath.Join(t.TempDir(), "s")}
	in(t, p.Egress, func() { change(t, "macvlan0", netlink.AddrAdd, nettest.SourceV4+"/24") })
	p.launch()
	require.Equal(t, 1, p.ended())
	require.Contains(t, p.stderr.String(), "sluice-netsetup: EGRESS_SOURCE 198.51.100.50 is on macvlan0 already, and no fence was there before it, so that two pods may answer for it; Multus puts it there when")
}

// A second one in the same pod is refused, wherever its socket is, and leaves the first one's
// fence alone; after the first one's end, whatever that was, the next begins.
func TestHoldTwice(t *testing.T) {
	p := newPod(t)
	c := p.client()
	c.hold(theGroup, 20*time.Second, false)
	second := &pod{Topology: p.Topology, t: t, socket: filepath.Join(t.TempDir(), "s"), prom: p.prom}
	second.launch()
	require.Equal(t, 1, second.ended())
	require.Equal(t, "sluice-netsetup: another sluice-netsetup hold runs in this network namespace: one holds all addresses of a pod, its groups by EGRESS_POOL\n", second.stderr.String())
	require.Equal(t, 3, strings.Count(func() (all string) { in(t, p.Egress, func() { all = tables(t) }); return all }(), "sluice-hold-"), "the fence stays")
	c.hold(theGroup, 20*time.Second, true)
	require.NoError(t, p.cmd.Process.Kill())
	p.ended()
	second.start()
	require.True(t, second.client().group(theGroup).Present)
}

// Another user's process, as a proxy of the pod is, keeps nobody from holding by the name.
func TestHoldNameTaken(t *testing.T) {
	p := &pod{Topology: bare(t), t: t, socket: filepath.Join(t.TempDir(), "s")}
	var taken net.Listener
	in(t, p.Egress, func() {
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)) // of this thread alone
		if errno == syscall.EINVAL {
			t.Skip("there is no other user in this user namespace")
		}
		require.Zero(t, errno)
		var err error
		taken, err = net.Listen("unix", "@sluice-netsetup-hold")
		require.NoError(t, err)
		_, _, errno = syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0))
		require.Zero(t, errno)
	})
	defer taken.Close()
	p.start()
	p.client().hold(theGroup, 20*time.Second, false)
	require.Contains(t, p.stderr.String(), "it cannot be told whether another sluice-netsetup hold runs here")
}

// What could not begin leaves no fence behind, and so nothing that the next one stumbles over.
func TestHoldFailedStart(t *testing.T) {
	p := &pod{Topology: bare(t), t: t, socket: filepath.Join(t.TempDir(), "s")}
	p.launch("EGRESS_INTERFACE=net7")
	require.Equal(t, 1, p.ended(), p.stderr)
	require.Contains(t, p.stderr.String(), "interface net7 of EGRESS_SOURCE 198.51.100.50 does not exist")
	in(t, p.Egress, func() {
		require.Empty(t, tables(t))
		change(t, "macvlan0", netlink.AddrAdd, nettest.SourceV4+"/24") // by a stranger, meanwhile
	})
	p.launch()
	require.Equal(t, 1, p.ended(), p.stderr)
	require.Contains(t, p.stderr.String(), "EGRESS_SOURCE 198.51.100.50 is on macvlan0 already")
}
