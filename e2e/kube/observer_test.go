//go:build linux

package kube

import (
	"context"
	"encoding/binary"
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
	return fmt.Sprintf("%s by %s: %d frames, %s to %s", s.addr, s.mac, s.frames, s.first.Format(clock), s.last.Format(clock))
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
	require.NoError(t, unix.SetsockoptInt(o.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	over := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(over)
		b, beside := make([]byte, 2048), make([]byte, 128)
		for {
			n, extra, _, from, err := unix.Recvmsg(o.fd, b, beside, 0)
			select {
			case <-stop:
				return
			default:
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && ll.Pkttype != unix.PACKET_OUTGOING {
				o.see(b[:n], when(beside[:extra]))
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

// when is the time at which the kernel saw a frame, of what came beside it.
func when(beside []byte) time.Time {
	all, err := unix.ParseSocketControlMessage(beside)
	for _, m := range all {
		if err == nil && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

// see takes a frame down if it is from a held address.
func (o *observer) see(b []byte, at time.Time) {
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
		o.note(addr, mac, at)
	}
}

func (o *observer) note(addr netip.Addr, mac string, now time.Time) {
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

// lag is how late the test may hear of what the kernel was told.
const lag = time.Second

// overlap says where a machine has used an address without a grant that is later than what any
// other has sent before; "": nowhere. Who uses it while another does, or goes on when another has
// had it in between, has none.
func (o *observer) overlap(grants []grant) string {
	var b strings.Builder
	for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
		spans := o.of(addr)
		for i, s := range spans {
			since := time.Time{}
			if i > 0 {
				since = spans[i-1].last
			}
			if !slices.ContainsFunc(grants, func(g grant) bool {
				return g.addr == s.addr && g.mac == s.mac && g.at.After(since) && g.at.Before(s.first.Add(lag))
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
func (o *observer) never(t testing.TB, grants []grant) {
	t.Helper()
	require.NotEmpty(t, o.of(nettest.HeldV4))
	require.NotEmpty(t, o.of(nettest.HeldV6))
	require.Empty(t, o.overlap(grants), "%v", grants)
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
		for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
			once = append(once, grant{addr: netip.MustParseAddr(addr), mac: pod.MAC("macvlan0"), at: o.of(addr)[0].first})
		}
	}
	require.NotEmpty(t, o.overlap(once))
}
