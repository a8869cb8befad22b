package resolve

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Each question has a source port and an ID of its own (RFC 5452 section 9.2), and
// only what the server asked sends can be its answer.
func TestQuestionsAreHardToForge(t *testing.T) {
	t.Parallel()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer server.Close()
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer other.Close()
	r := start(t, nettest.NewDNS(t), func(o *Options) {
		o.Servers = []netip.AddrPort{server.LocalAddr().(*net.UDPAddr).AddrPort()}
	})
	reply := func(from *net.UDPConn, to netip.AddrPort, q *dns.Msg, text string) {
		rr, err := dns.NewRR(q.Question[0].Name + " 60 IN " + text)
		require.NoError(t, err)
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{rr}
		b, err := m.Pack()
		require.NoError(t, err)
		_, err = from.WriteToUDPAddrPort(b, to)
		require.NoError(t, err)
	}
	ids := map[uint16]bool{}
	for _, name := range []string{"a.test", "b.test", "c.test"} {
		got := make(chan string, 1)
		go func() { got <- r.look(name) }()
		ports := map[uint16]bool{}
		buf := make([]byte, 512)
		for range 2 {
			n, from, err := server.ReadFromUDPAddrPort(buf)
			require.NoError(t, err)
			q := new(dns.Msg)
			require.NoError(t, q.Unpack(buf[:n]))
			ports[from.Port()], ids[q.Id] = true, true
			forged, honest := "A 192.0.2.66", "A 192.0.2.1"
			if q.Question[0].Qtype == dns.TypeAAAA {
				forged, honest = "AAAA 2001:db8::66", "AAAA 2001:db8::1"
			}
			reply(other, from, q, forged)
			reply(server, from, q, honest)
		}
		require.Len(t, ports, 2)
		require.Equal(t, "192.0.2.1 2001:db8::1", <-got)
	}
	require.Greater(t, len(ids), 2)
}

// However a question ends, its socket is closed.
func TestSocketsAreClosed(t *testing.T) {
	// Alone in the process: other tests have sockets, too.
	s := nettest.NewDNS(t)
	shut := closedPort(t)
	before := udpSockets(t)
	one := nettest.Addrs("192.0.2.1", "2001:db8::1")
	for name, c := range map[string]struct {
		a, aaaa nettest.Answer
		server  netip.AddrPort
	}{
		"answered":               {a: one, aaaa: one},
		"silent":                 {a: nettest.Silent(), aaaa: nettest.Silent()},
		"AAAA silent":            {a: one, aaaa: nettest.Silent()},
		"A silent":               {a: nettest.Silent(), aaaa: one},
		"NXDOMAIN, AAAA silent":  {a: nettest.NXDomain(), aaaa: nettest.Silent()},
		"truncated":              {a: one.Truncated(), aaaa: one.Truncated()},
		"without EDNS":           {a: nettest.Rcode(dns.RcodeFormatError), aaaa: one},
		"failure":                {a: nettest.ServFail(), aaaa: nettest.Silent()},
		"alias to nowhere known": {a: nettest.CNAME("other.test"), aaaa: one},
		"port shut":              {a: one, aaaa: one, server: shut},
	} {
		s.SetType("host.test", dns.TypeA, c.a)
		s.SetType("host.test", dns.TypeAAAA, c.aaaa)
		r := start(t, s, quick, func(o *Options) {
			if c.server.IsValid() {
				o.Servers[0] = c.server
			}
		})
		r.look("host.test")
		// A caller that leaves at once.
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		_, _ = r.Lookup(ctx, "host.test")
		cancel()
		require.NoError(t, r.Close())
		require.Equal(t, before, udpSockets(t), name)
	}
}

// udpSockets counts the UDP sockets of this process.
func udpSockets(t *testing.T) int {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			own[to] = true
		}
	}
	text, err := os.ReadFile("/proc/self/net/udp")
	if err != nil { // another system than Linux
		t.Skip("sockets are counted in /proc: ", err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 9 && own["socket:["+f[9]+"]"] {
			n++
		}
	}
	return n
}
