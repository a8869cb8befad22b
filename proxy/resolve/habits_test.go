package resolve

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// heard keeps the questions that a server got, as they were.
type heard struct {
	mu  sync.Mutex
	all []*dns.Msg
}

func (h *heard) note(q *dns.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, q.Copy())
}

// take empties it.
func (h *heard) take() []*dns.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

// address answers A questions with one address, and says that there is no other.
func address(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if q.Question[0].Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
	}
	return m
}

// A path that drops what has EDNS (some firewalls do) is asked without, and later names at once.
func TestPathThatDropsEDNS(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	var h heard
	s.Set("host.test", nettest.Func(func(q *dns.Msg) *dns.Msg {
		h.note(q)
		if q.IsEdns0() != nil {
			return nil
		}
		return address(q)
	}))
	r := start(t, s, func(o *Options) { o.Timeout = 2 * time.Second })
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	for range 10 { // it is learned: two look-ups in a row could be two lost datagrams, not more
		h.take()
		require.Equal(t, "192.0.2.1", r.look("host.test"))
	}
	for _, q := range h.take() {
		require.Nil(t, q.IsEdns0())
	}
	r.advance(10 * time.Minute) // and tried again
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	require.NotNil(t, h.take()[0].IsEdns0())
}

// Letters have a random case, which the answer has to have (0x20).
func TestCaseIsRandom(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	var h heard
	const name = "a-name-of-many-letters.example.test"
	s.Set(name, nettest.Func(func(q *dns.Msg) *dns.Msg { h.note(q); return address(q) }))
	r := start(t, s)
	seen := map[string]bool{}
	for range 5 {
		require.Equal(t, "192.0.2.1", r.look(name))
	}
	for _, q := range h.take() {
		seen[q.Question[0].Name] = true
		require.Equal(t, name+".", strings.ToLower(q.Question[0].Name))
	}
	require.Len(t, seen, 10)
}

// A server that sends names back in lower case is believed only when it is asked once
// more, without; and for a while it is asked like that at once.
func TestServerThatFoldsCase(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	var h heard
	const name = "a-name-of-many-letters.example.test"
	s.Set(name, nettest.Func(func(q *dns.Msg) *dns.Msg {
		h.note(q)
		m := address(q)
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		return m
	}))
	r := start(t, s)
	begin := time.Now()
	require.Equal(t, "192.0.2.1", r.look(name))
	require.Less(t, time.Since(begin), time.Second, "nobody waited for an interval")
	require.Len(t, h.take(), 4, "each family twice")
	require.Equal(t, "192.0.2.1", r.look(name))
	asked := h.take()
	require.Len(t, asked, 2)
	for _, q := range asked {
		require.Equal(t, name+".", q.Question[0].Name)
	}
	r.advance(10 * time.Minute)
	require.Equal(t, "192.0.2.1", r.look(name))
	require.Len(t, h.take(), 4, "it is tried again")
}

// Who guesses port and ID, but not the case, is not believed: neither what he says, nor
// that the server folds case.
func TestForgedCase(t *testing.T) {
	t.Parallel()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer pc.Close()
	r := start(t, nettest.NewDNS(t), func(o *Options) {
		o.Servers = []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()}
	})
	got := make(chan string, 1)
	const name = "a-name-of-many-letters.example.test"
	go func() { got <- r.look(name) }()
	buf := make([]byte, 512)
	for range 2 {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		require.NoError(t, err)
		q := new(dns.Msg)
		require.NoError(t, q.Unpack(buf[:n]))
		forged := address(q)
		forged.Question[0].Name = strings.ToLower(forged.Question[0].Name)
		if len(forged.Answer) > 0 {
			forged.Answer[0].(*dns.A).A = net.IPv4(192, 0, 2, 66)
		}
		for _, m := range []*dns.Msg{forged, address(q)} {
			b, err := m.Pack()
			require.NoError(t, err)
			_, err = pc.WriteToUDPAddrPort(b, from)
			require.NoError(t, err)
		}
	}
	require.Equal(t, "192.0.2.1", <-got)
	require.Zero(t, (*r.conf.get(r.clock())).servers[0].foldsUntil.Load())
}

// What was cut off over TCP as well is all there is.
func TestTruncatedOverTCP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cut  func(m *dns.Msg)
		want string
	}{
		"records": {func(*dns.Msg) {}, "192.0.2.1"},
		"none": {func(m *dns.Msg) { m.Answer = nil },
			"server_failure: look up host.test at 127.0.0.1:PORT: the answer did not fit into a datagram, and asking over TCP failed: truncated answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nettest.NewDNS(t)
			s.SetType("host.test", dns.TypeA, nettest.Func(func(q *dns.Msg) *dns.Msg {
				m := address(q)
				m.Truncated = true
				c.cut(m)
				return m
			}))
			s.SetType("host.test", dns.TypeAAAA, nettest.NoData())
			require.Equal(t, c.want, start(t, s, quick).look("host.test"))
		})
	}
}

// That TCP was refused, and why it was tried, is said.
func TestTCPRefused(t *testing.T) {
	t.Parallel()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := nettest.NewDNSOn(t, pc, nil)
	s.Set("host.test", nettest.Addrs("192.0.2.1").Truncated())
	s.SetType("host.test", dns.TypeAAAA, nettest.NoData())
	require.Equal(t, "server_failure: look up host.test at 127.0.0.1:PORT: the answer did not fit into a datagram, "+
		"and asking over TCP failed: dial tcp 127.0.0.1:PORT: connect: connection refused", start(t, s).look("host.test"))
}

// Every address is there for the judge, up to a bound that the log tells of; neither
// family loses its place to the other.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ four, six, want4, want6 int }{
		"seventy":     {70, 0, 70, 0},
		"both":        {400, 400, 400, 400},
		"too many A":  {1500, 2, 998, 2},
		"too many":    {900, 900, 500, 500},
		"at the edge": {500, 500, 500, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nettest.NewDNS(t)
			var four, six []string
			for i := range c.four {
				four = append(four, fmt.Sprintf("192.0.%d.%d", i/250, i%250))
			}
			for i := range c.six {
				six = append(six, fmt.Sprintf("2001:db8::%x", i+1))
			}
			s.SetType("host.test", dns.TypeA, nettest.Addrs(four...).Truncated())
			s.SetType("host.test", dns.TypeAAAA, nettest.Addrs(six...).Truncated())
			var log bytes.Buffer
			r := start(t, s, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			want := append(four[:c.want4:c.want4], six[:c.want6]...)
			require.Equal(t, strings.Join(want, " "), r.look("host.test"))
			if c.want4+c.want6 < c.four+c.six {
				r.await(AddrsLeftOut)
				require.NoError(t, r.Close())
				require.Contains(t, log.String(), "those behind the first are neither judged nor used\" name=host.test limit=1000")
			} else {
				require.NotContains(t, r.kinds(), AddrsLeftOut.String())
			}
		})
	}
}
