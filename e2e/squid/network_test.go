//go:build linux

package squid

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const squidPath = "/usr/sbin/squid"

// network is a namespace in which every address leads to one origin server, and
// 127.0.0.1 is the DNS server, so that whatever squid allows really connects.
type network struct {
	ns     *nettest.Netns
	dns    *nettest.DNS
	resolv string // path of a resolv.conf that names the DNS server
}

// newNetwork makes the network, or skips the test where there can be no squid.
func newNetwork(t testing.TB) *network {
	t.Helper()
	if _, err := os.Stat(squidPath); err != nil {
		nettest.Unavailable(t, fmt.Sprintf("no squid (%v): apt-get install squid", err))
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	if os.Geteuid() != 0 || err == nil && !fullRange(string(ids)) {
		nettest.Unavailable(t, "squid drops root for a user of its own: run as root, outside a user namespace")
	}
	version, err := exec.Command(squidPath, "-v").Output()
	require.NoError(t, err)
	t.Log(strings.SplitN(string(version), "\n", 2)[0])
	n := &network{ns: nettest.NewNetns(t, "squid")}
	n.ownEverything(t)
	n.dns = nettest.NewDNSOn(t, n.ns.ListenPacket("127.0.0.1:53"), n.ns.Listen("127.0.0.1:53"))
	n.resolv = filepath.Join(t.TempDir(), "resolv.conf")
	require.NoError(t, os.WriteFile(n.resolv, []byte("nameserver 127.0.0.1\noptions timeout:2\n"), 0o644)) //nolint:gosec // squid's user reads it
	n.serveOrigin(t)
	return n
}

// fullRange reports whether a uid_map is that of the machine, where every user
// exists.
func fullRange(uidMap string) bool {
	var inside, outside, count uint32
	_, err := fmt.Sscan(uidMap, &inside, &outside, &count)
	return err == nil && inside == 0 && outside == 0 && count == 1<<32-1
}

// ownEverything makes every address one of the namespace's own.
func (n *network) ownEverything(t testing.TB) {
	t.Helper()
	require.NoError(t, n.ns.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, all := range []string{"0.0.0.0/0", "::/0"} {
			_, dst, err := net.ParseCIDR(all)
			if err != nil {
				return err
			}
			err = netlink.RouteAdd(&netlink.Route{
				LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL,
				Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST,
			})
			if err != nil {
				return fmt.Errorf("route %s: %w", all, err)
			}
		}
		return nil
	}))
}

// serveOrigin answers every request on port 80 with the address it was dialled at.
func (n *network) serveOrigin(t testing.TB) {
	t.Helper()
	origin := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			local := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
			fmt.Fprint(w, local.AddrPort().Addr().Unmap())
		}),
	}
	l := n.ns.Listen("[::]:80")
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = origin.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		_ = origin.Close()
		<-served
	})
}

// publish makes the DNS server answer as w says.
func (n *network) publish(w *world) {
	for _, name := range hostNames {
		n.dns.Set(name, w.answer(name))
	}
	for _, a := range addrPool {
		n.dns.SetType(reverseName(a), ptrType, w.pointer(a))
	}
	n.dns.Forget()
}

// start starts a program in the namespace, where resolv.conf names the DNS server:
// squid resolves some ACLs by libc.
func (n *network) start(cmd *exec.Cmd) error {
	return n.ns.Do(func() error {
		// The thread ends with this call, and nothing else sees its mounts.
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("own mounts: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("private mounts: %w", err)
		}
		if err := unix.Mount(n.resolv, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("resolv.conf: %w", err)
		}
		return cmd.Start()
	})
}

// literal is addr as the authority of a URL.
func literal(a netip.Addr) string { return nettest.Bracketed(a.String()) }
