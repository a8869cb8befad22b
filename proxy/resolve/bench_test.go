package resolve

import (
	"context"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func BenchmarkLookup(b *testing.B) {
	s := nettest.NewDNS(b)
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").TTL(86400))
	s.Set("none.test", nettest.NXDomain())
	r, err := New(Options{Servers: []netip.AddrPort{s.Addr()}, ResolvConf: "/dev/null"})
	require.NoError(b, err)
	defer r.Close()
	ctx := context.Background()
	for _, c := range []struct{ path, name string }{{"hit", "host.test"}, {"negative", "none.test"}} {
		b.Run(c.path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.Lookup(ctx, c.name)
			}
		})
	}
	b.Run("hit-parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = r.Lookup(ctx, "host.test")
			}
		})
	})
}

// BenchmarkMiss is what it costs to ask a server that answers at once. With -cpu 1,
// the time is that of the processor: the server's part of it is two system calls for
// a question.
func BenchmarkMiss(b *testing.B) {
	for _, c := range []struct {
		path  string
		lasts time.Duration // of what is known of AAAA
	}{{"both-families", 0}, {"one-family", math.MaxInt64}} {
		b.Run(c.path, func(b *testing.B) {
			now := time.Unix(1e9, 0)
			r, err := New(Options{
				Servers: []netip.AddrPort{echo(b)}, ResolvConf: "/dev/null",
				NegativeTTLMax: max(c.lasts, 1), Now: func() time.Time { return now },
			})
			require.NoError(b, err)
			defer r.Close()
			r.conf.due.Store(math.MaxInt64) // the clock runs fast: files are not looked at
			r.hosts.due.Store(math.MaxInt64)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(5 * time.Second)
				if addrs, err := r.Lookup(ctx, "host.test"); len(addrs) != 1 || err != nil {
					b.Fatal(addrs, err)
				}
			}
		})
	}
}

// echo is a server that allocates nothing: host.test has an IPv4 address for five
// seconds, and no IPv6 address for ages.
func echo(b *testing.B) netip.AddrPort {
	tail := func(rr string, answers, authority uint16) []byte {
		record, err := dns.NewRR(rr)
		require.NoError(b, err)
		buf := make([]byte, 512)
		n, err := dns.PackRR(record, buf, 0, nil, false)
		require.NoError(b, err)
		return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, answers), authority), buf[:n]...)
	}
	a := tail("host.test. 5 IN A 192.0.2.1", 1, 0)
	none := tail("test. 2147483647 IN SOA ns.test. hostmaster.test. 1 2 3 4 2147483647", 0, 1)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(b, err)
	ended := make(chan struct{})
	b.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, 512)
		const question = 12 + len("\x04host\x04test\x00") + 4
		for {
			_, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			t := a
			if binary.BigEndian.Uint16(buf[question-4:]) == dns.TypeAAAA {
				t = none
			}
			buf[2], buf[3] = 0x81, 0x80
			copy(buf[6:10], t)
			buf[10], buf[11] = 0, 0
			n := copy(buf[question:], t[4:])
			_, _ = conn.WriteToUDPAddrPort(buf[:question+n], from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}
