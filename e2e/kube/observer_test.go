//go:build linux

package kube

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// observer sees each frame on the wire outside that says it is from a held address: IP packets
// from it, ARP that has it as the sender, and neighbour advertisements for it.
type observer struct {
	fd int

	mu    sync.Mutex
	spans []span
}

// span is a time in which one machine alone used an address.
type span struct {
	addr        netip.Addr
	mac         string
	first, last time.Time
	frames      int
}

func (s span) String() string {
	return fmt.Sprintf("%s by %s: %d frames, %s to %s", s.addr, s.mac, s.frames, s.first.Format("15:04:05.000"), s.last.Format("15:04:05.000"))
}

// observe starts one at the gateway's switch; it ends with the test.
func observe(t testing.TB, gateway *nettest.Netns) *observer {
	t.Helper()
	o := &observer{}
	proto := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	require.NoError(t, gateway.Do(func() (err error) {
		o.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
		return err
	}))
	require.NoError(t, unix.SetsockoptInt(o.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20))
	require.NoError(t, unix.SetsockoptTimeval(o.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	over := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(over)
		b := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(o.fd, b, 0)
			select {
			case <-stop:
				return
			default:
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && ll.Pkttype != unix.PACKET_OUTGOING {
				o.see(b[:n])
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-over
		unix.Close(o.fd)
	})
	return o
}

// see takes a frame down if it is from a held address.
func (o *observer) see(b []byte) {
	if len(b) < 14 {
		return
	}
	mac, body := net.HardwareAddr(b[6:12]).String(), b[14:]
	var addr netip.Addr
	switch binary.BigEndian.Uint16(b[12:]) {
	case unix.ETH_P_ARP:
		if len(body) >= 28 {
			addr = netip.AddrFrom4([4]byte(body[14:18]))
			mac = net.HardwareAddr(body[8:14]).String() // as it says itself
		}
	case unix.ETH_P_IP:
		if len(body) >= 20 {
			addr = netip.AddrFrom4([4]byte(body[12:16]))
		}
	case unix.ETH_P_IPV6:
		switch {
		case len(body) >= 64 && body[6] == unix.IPPROTO_ICMPV6 && body[40] == 136: // a neighbour advertisement
			addr = netip.AddrFrom16([16]byte(body[48:64]))
		case len(body) >= 40:
			addr = netip.AddrFrom16([16]byte(body[8:24]))
		}
	}
	switch addr.String() {
	case nettest.HeldV4, nettest.HeldV6:
		o.note(addr, mac)
	}
}

func (o *observer) note(addr netip.Addr, mac string) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := len(o.spans) - 1; i >= 0; i-- {
		if s := &o.spans[i]; s.addr == addr {
			if s.mac != mac {
				break
			}
			s.last = now
			s.frames++
			return
		}
	}
	o.spans = append(o.spans, span{addr, mac, now, now, 1})
}

// of are the spans of one address.
func (o *observer) of(addr string) (all []span) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.spans {
		if s.addr.String() == addr {
			all = append(all, s)
		}
	}
	return all
}

// grant is when the kernel of a replica was told to let the address out, after it had not.
type grant struct {
	mac string
	at  time.Time
}

// grants are those of all replicas, as sluice-netsetup has logged them.
func (f *failover) grants() (all []grant) {
	for _, r := range f.replicas {
		mac := r.ns.MAC("macvlan0")
		for line := range strings.Lines(r.said()) {
			var said struct {
				Time time.Time
				Msg  string
			}
			if json.Unmarshal([]byte(strings.TrimSpace(line)), &said) == nil && (said.Msg == "held" || strings.HasPrefix(said.Msg, "held yet")) {
				all = append(all, grant{mac, said.Time})
			}
		}
	}
	return all
}

// logged is how far a line of a log may be from what it tells of; thawed the same of a program that
// may be frozen in between.
const (
	logged = 300 * time.Millisecond
	thawed = 3 * time.Second
)

// overlap says where a machine has used an address without a grant that is later than what any
// other has sent before; "": nowhere. Who uses it while another does, or goes on when another has
// had it in between, has none. A grant is logged within late.
func (o *observer) overlap(grants []grant, late time.Duration) string {
	var b strings.Builder
	for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
		spans := o.of(addr)
		for i, s := range spans {
			since := time.Time{}
			if i > 0 {
				since = spans[i-1].last.Add(-logged)
			}
			if !slices.ContainsFunc(grants, func(g grant) bool {
				return g.mac == s.mac && g.at.After(since) && g.at.Before(s.first.Add(late))
			}) {
				fmt.Fprintf(&b, "no grant for %s, of:\n", s)
				for _, s := range spans {
					fmt.Fprintln(&b, s)
				}
			}
		}
	}
	return b.String()
}

// never requires that nobody has used an address while another did.
func (o *observer) never(t testing.TB, grants []grant, late time.Duration) {
	t.Helper()
	require.NotEmpty(t, o.of(nettest.HeldV4))
	require.NotEmpty(t, o.of(nettest.HeldV6))
	require.Empty(t, o.overlap(grants, late), "%v", grants)
}

// Without a fence two replicas use an address at a time, and that is found.
func TestObserverFindsAnOverlap(t *testing.T) {
	n := nettest.NewReplicas(t, 2)
	o := observe(t, n.Gateway)
	for _, pod := range n.Pods {
		pod.Address("macvlan0", nettest.HeldV4+"/24", nettest.HeldV6+"/64")
	}
	for i := range 4 {
		for _, to := range []string{nettest.GatewayV4 + ":9", "[" + nettest.GatewayV6 + "]:9"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			n.Pods[i%2].DialContext(ctx, "tcp", to) // which is refused, and that is an answer
			cancel()
		}
	}
	nettest.Eventually(t, "both were seen", func() bool { return len(o.of(nettest.HeldV4)) > 1 && len(o.of(nettest.HeldV6)) > 1 })
	var once []grant // for each, before it began
	for _, pod := range n.Pods {
		once = append(once, grant{pod.MAC("macvlan0"), o.of(nettest.HeldV4)[0].first})
	}
	require.NotEmpty(t, o.overlap(once, logged))
}
