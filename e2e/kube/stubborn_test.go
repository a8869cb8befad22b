//go:build linux

package kube

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// heeds has the gateway heed only some announcements by ARP: requests, replies, or none.
func (f *failover) heeds(t *testing.T, forms string) {
	t.Helper()
	rules := ""
	for _, form := range []string{"request", "reply"} {
		if !strings.Contains(forms, form) {
			rules += fmt.Sprintf("arp operation %s arp saddr ip %s arp daddr ip %[2]s drop; ", form, nettest.HeldV4)
		}
	}
	got := program.Command(t, f.Gateway, nil, "nft", "table arp heeds { chain c { type filter hook input priority 0; "+rules+"}; }")
	require.Zero(t, got.Status, got.Err)
}

// advertise sends an unsolicited neighbour advertisement from a namespace.
func advertise(t *testing.T, n *nettest.Netns, addr string, override bool) {
	t.Helper()
	var flags byte
	if override {
		flags = 0x20
	}
	target, to := netip.MustParseAddr(addr).AsSlice(), netip.MustParseAddr("ff02::1").AsSlice()
	require.NoError(t, n.Do(func() error {
		ifi, err := net.InterfaceByName("phys0")
		if err != nil {
			return err
		}
		body := append([]byte{136, 0, 0, 0, flags, 0, 0, 0}, target...)
		body = append(append(body, 2, 1), ifi.HardwareAddr...)
		sum := uint32(len(body) + unix.IPPROTO_ICMPV6)
		for _, part := range [][]byte{target, to, body} {
			for i := 0; i < len(part); i += 2 {
				sum += uint32(binary.BigEndian.Uint16(part[i:]))
			}
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(body[2:], ^uint16(sum+sum>>16))
		frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, ifi.HardwareAddr...)
		frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255)
		frame = append(append(append(frame, target...), to...), body...)
		c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		return err
	}))
}

// A gateway that believes for an hour what it knows, and heeds only one form of announcement, has
// the address of the next holder at once: both forms are sent, and advertisements override.
func TestStubbornGateway(t *testing.T) {
	for _, forms := range []string{"request", "reply"} {
		t.Run(forms, func(t *testing.T) {
			t.Parallel()
			f := newFailover(t, 2)
			f.Gateway.Stubborn("lan0")
			f.heeds(t, forms)
			f.reallyStubborn(t)
			o := observe(t, f.Gateway)
			was := f.awaitHolder(nil)
			s := f.steady()
			nettest.Eventually(t, "the client is served, and the other waits for its turn", func() bool { return s.count() > 10 && f.standsBy(was) })
			for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
				f.Gateway.Remember("lan0", addr, was.ns.MAC("macvlan0"), false)
			}
			s.outage()
			was.signal(syscall.SIGKILL)
			next := f.awaitHolder(was)
			measured(t, "the holder's pod killed, a gateway that heeds announcements only", s.outage())
			for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
				assert.Equal(t, next.ns.MAC("macvlan0"), f.Gateway.Neighbour("lan0", addr), addr)
			}
			answer, err := s.pageOf(t.Context(), f.endpoint(), "["+nettest.ServerAV6+"]")
			require.NoError(t, err)
			assert.Equal(t, "200 "+nettest.HeldV6, answer)
			o.never(t, f.grants())
		})
	}
}

// reallyStubborn sees that the gateway is: of an address of its own, it heeds no advertisement
// that does not override what it knows, and one that does.
func (f *failover) reallyStubborn(t *testing.T) {
	t.Helper()
	const addr, before = "2001:db8:1::99", "02:00:00:00:00:01"
	f.Gateway.Remember("lan0", addr, before, false)
	advertise(t, f.Stranger, addr, false)
	advertise(t, f.Stranger, "2001:db8:1::98", true) // behind which the first has come
	f.Gateway.Remember("lan0", "2001:db8:1::98", before, false)
	advertise(t, f.Stranger, "2001:db8:1::98", true)
	nettest.Eventually(t, "one that overrides is heeded", func() bool {
		return f.Gateway.Neighbour("lan0", "2001:db8:1::98") == f.Stranger.MAC("phys0")
	})
	require.Equal(t, before, f.Gateway.Neighbour("lan0", addr), "one that does not is not")
}

// A gateway that heeds no announcement is found out: no reply comes back, and the address is let
// go rather than held for nothing. When it heeds them again, all is well.
func TestDeafGateway(t *testing.T) {
	f := newFailover(t, 1, "--hold-retry=500ms")
	f.awaitHolder(nil)
	was := f.replicas[0]
	was.kill()
	for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
		f.Gateway.Remember("lan0", addr, "02:00:00:00:00:01", true)
	}
	was.start()
	nettest.Eventually(t, "it is said", func() bool { return strings.Contains(was.saidNow(), "no reply comes to the address: it is let go") })
	for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
		f.Gateway.Forget("lan0", addr)
	}
	f.soon("a deaf gateway")
}

// Nobody takes an address by force that another machine answers for, of either family, and it is
// said who that is. Who holds one that another machine speaks for lets it go at once.
func TestDuplicate(t *testing.T) {
	for family, addr := range map[string]string{"IPv4": nettest.HeldV4 + "/24", "IPv6": nettest.HeldV6 + "/64"} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			n := nettest.NewReplicas(t, 1)
			n.Stranger.Address("phys0", addr)
			f := setup{}.failover(t, n)
			r, mac := f.replicas[0], n.Stranger.MAC("phys0")
			said := func(what string) bool {
				for line := range strings.Lines(r.said()) {
					if strings.Contains(line, what) && strings.Contains(line, mac) {
						return true
					}
				}
				return false
			}
			nettest.Eventually(t, "it is said who has the address", func() bool { return said("somebody answers for the address: it is not taken") })
			assert.Nil(t, f.holder())
			assert.Zero(t, f.takes())
			n.Stranger.Down("phys0")
			f.awaitHolder(nil)
			assert.Equal(t, 1, f.takes())

			n.Stranger.Up("phys0")
			n.Stranger.Address("phys0") // what the kernel took away with it going down
			speak := func() { advertise(t, n.Stranger, nettest.HeldV6, true) }
			if family == "IPv4" {
				speak = func() {
					n.Stranger.Forget("phys0", nettest.GatewayV4)
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					n.Stranger.DialContext(ctx, "tcp", nettest.GatewayV4+":9")
				}
				got := program.Command(t, n.Stranger, nil, "ip", "route", "replace", nettest.GatewayV4+"/32", "dev", "phys0", "src", nettest.HeldV4)
				require.Zero(t, got.Status, got.Err)
			}
			nettest.Eventually(t, "it is let go, and said for whom", func() bool {
				speak() // which leaves once the cable is in
				return said("somebody else uses the address: it is let go")
			})
			assert.False(t, r.kernel.lets(nettest.HeldV4))
			assert.False(t, r.kernel.lets(nettest.HeldV6), "they go together")
			n.Stranger.Down("phys0")
			f.soon("the stranger has gone")
		})
	}
}
