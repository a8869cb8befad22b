package fuzz

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/resolve"
)

// FuzzResolveAnswer feeds datagrams to the resolver as the answer to host.test.
// Whatever they hold:
//   - every address comes from a record of the type asked, of a name that a chain
//     of aliases in the same message leads to from host.test;
//   - the TTL is no greater than that of any record used;
//   - a datagram with another ID gives nothing, and an error gives nothing.
func FuzzResolveAnswer(f *testing.F) {
	for _, m := range answerSeeds() {
		b, err := m.Pack()
		require.NoError(f, err)
		f.Add(b, false)
		f.Add(b, true)
		f.Add(b[:len(b)-3], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, aaaa bool) {
		qtype := dns.TypeA
		if aaaa {
			qtype = dns.TypeAAAA
		}
		query := new(dns.Msg).SetQuestion("host.test.", qtype)
		query.Id = 0x1234
		b = slices.Clone(b) // the fuzzer owns its bytes
		if len(b) >= 2 {
			b[0], b[1] = 0x12, 0x35
			_, err := resolve.ParseAnswer(query, b)
			require.Error(t, err)
			b[1] = 0x34
		}
		a, err := resolve.ParseAnswer(query, b)
		if err != nil {
			require.Empty(t, a)
			return
		}
		m := new(dns.Msg)
		require.NoError(t, m.Unpack(b))
		require.True(t, m.Response)
		require.False(t, m.Truncated)
		require.LessOrEqual(t, a.TTL, (1<<31-1)*time.Second)
		require.GreaterOrEqual(t, a.TTL, time.Duration(0))
		checkChain(t, m, a)
		checkAddrs(t, m, a, qtype)
	})
}

// checkChain demands that each alias of the chain is in the message.
func checkChain(t *testing.T, m *dns.Msg, a resolve.Answer) {
	require.Equal(t, "host.test.", a.Chain[0])
	require.LessOrEqual(t, len(a.Chain), 17)
	for i, name := range a.Chain[1:] {
		require.NotContains(t, a.Chain[:i+1], name)
		require.True(t, slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
			c, ok := rr.(*dns.CNAME)
			return ok && dns.CanonicalName(c.Hdr.Name) == a.Chain[i] && dns.CanonicalName(c.Target) == name &&
				(c.Hdr.Ttl > 1<<31-1 && a.TTL == 0 || a.TTL <= time.Duration(c.Hdr.Ttl)*time.Second)
		}))
	}
	if a.Next != "" {
		require.Empty(t, a.Addrs)
		require.Equal(t, a.Chain[len(a.Chain)-1], a.Next)
	}
}

// checkAddrs demands a record of the chain's last name for each address.
func checkAddrs(t *testing.T, m *dns.Msg, a resolve.Answer, qtype uint16) {
	require.LessOrEqual(t, len(a.Addrs), 1000)
	owner := a.Chain[len(a.Chain)-1]
	for i, addr := range a.Addrs {
		require.False(t, addr.Is4In6())
		require.NotContains(t, a.Addrs[:i], addr)
		require.True(t, slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
			h := rr.Header()
			var ip netip.Addr
			switch rr := rr.(type) {
			case *dns.A:
				ip, _ = netip.AddrFromSlice(rr.A.To4())
			case *dns.AAAA:
				ip, _ = netip.AddrFromSlice(rr.AAAA)
			}
			return h.Rrtype == qtype && h.Class == dns.ClassINET && dns.CanonicalName(h.Name) == owner && ip.Unmap() == addr
		}), "%v of %s", addr, owner)
	}
}

// answerSeeds are one message of each shape that the resolver tells apart.
func answerSeeds() []*dns.Msg {
	rr := func(text string) dns.RR {
		r, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		return r
	}
	message := func(qtype uint16, rcode int, rrs ...dns.RR) *dns.Msg {
		q := new(dns.Msg).SetQuestion("host.test.", qtype)
		m := new(dns.Msg).SetRcode(q, rcode)
		m.Id, m.RecursionAvailable = 0x1234, true
		for _, r := range rrs {
			if r.Header().Rrtype == dns.TypeSOA || r.Header().Rrtype == dns.TypeNS {
				m.Ns = append(m.Ns, r)
			} else {
				m.Answer = append(m.Answer, r)
			}
		}
		return m
	}
	soa := rr("test. 60 IN SOA ns.test. hostmaster.test. 1 2 3 4 30")
	return []*dns.Msg{
		message(dns.TypeA, 0, rr("host.test. 60 IN A 192.0.2.1"), rr("other.test. 60 IN A 10.0.0.1")),
		message(dns.TypeAAAA, 0, rr("HOST.test. 60 IN AAAA 2001:db8::1"), rr("host.test. 60 IN AAAA ::ffff:10.0.0.1")),
		message(dns.TypeA, 0, rr("host.test. 60 IN CNAME a.test."), rr("a.test. 5 IN A 192.0.2.1")),
		message(dns.TypeA, 0, rr("host.test. 60 IN CNAME a.test."), rr("a.test. 5 IN CNAME host.test.")),
		message(dns.TypeA, 0, rr("host.test. 4294967295 IN CNAME a.test.")),
		message(dns.TypeA, 0, rr("host.test. 60 CH A 192.0.2.1")),
		message(dns.TypeA, dns.RcodeNameError, soa),
		message(dns.TypeAAAA, 0, soa),
		message(dns.TypeA, dns.RcodeServerFailure),
		message(dns.TypeA, 0, rr("test. 60 IN NS ns.test.")),
		new(dns.Msg).SetQuestion("host.test.", dns.TypeA),
	}
}

// FuzzResolvConf reads arbitrary resolv.conf texts: what comes of one, written
// out again, is read the same, and is within bounds.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.53\nsearch a.test b.test.\noptions ndots:5 timeout:2 attempts:3 rotate\n")
	f.Add("nameserver fe80::1%eth0\ndomain A.test\noptions ndots:-1 timeout:0 attempts:99999999999\n")
	f.Add("search . .. \r\nnameserver\toops\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := resolve.ParseConf([]byte(text))
		if err != nil {
			require.Nil(t, c)
			return
		}
		require.LessOrEqual(t, len(c.Servers), 8)
		require.LessOrEqual(t, len(c.Search), 16)
		require.True(t, c.Ndots >= 0 && c.Ndots <= 15)
		require.True(t, c.Attempts >= 1 && c.Attempts <= 5)
		require.True(t, c.Timeout >= time.Second && c.Timeout <= 30*time.Second)
		var out strings.Builder
		for _, s := range c.Servers {
			require.True(t, s.IsValid() && s.Port() == 53)
			fmt.Fprintf(&out, "nameserver %s\n", s.Addr())
		}
		if len(c.Search) > 0 {
			fmt.Fprintf(&out, "search %s\n", strings.Join(c.Search, " "))
		}
		fmt.Fprintf(&out, "options ndots:%d attempts:%d timeout:%d\n", c.Ndots, c.Attempts, c.Timeout/time.Second)
		if c.Rotate {
			out.WriteString("options rotate\n")
		}
		again, err := resolve.ParseConf([]byte(out.String()))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

// FuzzHosts reads arbitrary hosts files: names are canonical, addresses are plain
// and each listed once with IPv4 first, and what comes of a file, written out
// again, is read the same.
func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 localhost ip6-localhost # comment\n")
	f.Add("::ffff:192.0.2.1 A.test a.TEST.\n192.0.2.1 a.test\nfe80::1%eth0 b\n")
	f.Fuzz(func(t *testing.T, text string) {
		hosts := resolve.ParseHosts([]byte(text))
		var out strings.Builder
		for name, addrs := range hosts {
			require.NotEmpty(t, name)
			require.False(t, strings.HasSuffix(name, "."))
			require.Equal(t, dns.CanonicalName(name), name+".")
			v6 := false
			for i, addr := range addrs {
				require.False(t, addr.Is4In6() || addr.Zone() != "")
				require.False(t, addr.Is4() && v6)
				require.NotContains(t, addrs[:i], addr)
				v6 = addr.Is6()
				fmt.Fprintf(&out, "%s %s\n", addr, name)
			}
		}
		require.Equal(t, hosts, resolve.ParseHosts([]byte(out.String())))
	})
}
