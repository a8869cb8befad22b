package resolve

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// quick makes silence end soon.
func quick(o *Options) { o.Timeout = 400 * time.Millisecond }

func TestLookup(t *testing.T) {
	t.Parallel()
	const seventeen = "a16.test"
	chain := []string{"a1.test", "a2.test", "a3.test", "a4.test", "a5.test", "a6.test", "a7.test", "a8.test",
		"a9.test", "a10.test", "a11.test", "a12.test", "a13.test", "a14.test", "a15.test", seventeen, "a17.test"}
	formerr := nettest.Rcode(dns.RcodeFormatError)
	for name, c := range map[string]struct {
		a, aaaa []nettest.Answer // aaaa nil: as a
		want    string
	}{
		"both families, IPv4 first": {
			a:    answers(nettest.Addrs("2001:db8::1", "192.0.2.1", "192.0.2.2")),
			want: "192.0.2.1 192.0.2.2 2001:db8::1",
		},
		"IPv4 only": {a: answers(nettest.Addrs("192.0.2.1")), want: "192.0.2.1"},
		"IPv6 only": {a: answers(nettest.Addrs("2001:db8::1")), want: "2001:db8::1"},
		"an IPv4-mapped address is unmapped, and listed once": {
			a: answers(nettest.Addrs("192.0.2.1")), aaaa: answers(nettest.Addrs("::ffff:192.0.2.1", "::ffff:192.0.2.9")),
			want: "192.0.2.1 192.0.2.9",
		},
		"no such name": {
			a:    answers(nettest.NXDomain()),
			want: "not_found: look up host.test: no such name (NXDOMAIN)",
		},
		"no address": {
			a:    answers(nettest.NoData()),
			want: "not_found: look up host.test: no address (NODATA)",
		},
		"SERVFAIL": {
			a:    answers(nettest.ServFail()),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: SERVFAIL",
		},
		"REFUSED": {
			a:    answers(nettest.Refused()),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: REFUSED",
		},
		"a code of no name": {
			a:    answers(nettest.Rcode(14)),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: RCODE 14",
		},
		"silence": {
			a:    answers(nettest.Silent()),
			want: "timeout: look up host.test at 127.0.0.1:PORT: no answer in 400ms",
		},
		"silence once: the question is sent again": {
			a:    answers(nettest.Silent(), nettest.Addrs("192.0.2.1")),
			want: "192.0.2.1",
		},
		"truncated: TCP has the whole": {
			a:    answers(nettest.Addrs("192.0.2.1", "2001:db8::1").Truncated()),
			want: "192.0.2.1 2001:db8::1",
		},
		"a chain of aliases": {
			a:    answers(nettest.CNAME("a.test", "B.test").To("192.0.2.1")),
			want: "192.0.2.1",
		},
		"a chain to nowhere": {
			a:    answers(nettest.CNAME("a.test").To()),
			want: "not_found: look up host.test: no address (NODATA)",
		},
		"a chain of aliases as long as may be": {
			a:    answers(nettest.CNAME(chain[:16]...).To("192.0.2.1")),
			want: "192.0.2.1",
		},
		"a chain that is too long": {
			a:    answers(nettest.CNAME(chain...).To("192.0.2.1")),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: more than 16 aliases in a row",
		},
		"a loop in one answer": {
			a:    answers(nettest.CNAME("a.test", "b.test", "a.test")),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: aliases form a loop",
		},
		"a name that is its own alias": {
			a:    answers(nettest.CNAME("Host.test")),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: aliases form a loop",
		},
		"AAAA fails: A is used": {
			a: answers(nettest.Addrs("192.0.2.1")), aaaa: answers(nettest.ServFail()),
			want: "192.0.2.1",
		},
		"A fails: AAAA is used": {
			a: answers(nettest.Refused()), aaaa: answers(nettest.Addrs("2001:db8::1")),
			want: "2001:db8::1",
		},
		"AAAA silent: A is used": {
			a: answers(nettest.Addrs("192.0.2.1")), aaaa: answers(nettest.Silent()),
			want: "192.0.2.1",
		},
		"AAAA says NXDOMAIN of a name that exists": {
			a: answers(nettest.Addrs("192.0.2.1")), aaaa: answers(nettest.NXDomain()),
			want: "192.0.2.1",
		},
		"NXDOMAIN holds for the silent AAAA too": {
			a: answers(nettest.NXDomain()), aaaa: answers(nettest.Silent()),
			want: "not_found: look up host.test: no such name (NXDOMAIN)",
		},
		"no A, and AAAA fails: nobody knows": {
			a: answers(nettest.NoData()), aaaa: answers(nettest.ServFail()),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: SERVFAIL",
		},
		"a server without EDNS": {
			a:    answers(formerr, nettest.Addrs("192.0.2.1")),
			want: "192.0.2.1",
		},
		"stray datagrams before the answer": {
			a: answers(nettest.Addrs("192.0.2.1").After(nettest.WrongID, nettest.WrongQuestion,
				nettest.WrongType, nettest.NotResponse, nettest.Noise)),
			want: "192.0.2.1",
		},
		"stray datagrams and no answer": {
			a: answers(nettest.Silent().After(nettest.WrongID, nettest.WrongQuestion,
				nettest.WrongType, nettest.NotResponse, nettest.Noise)),
			want: "timeout: look up host.test at 127.0.0.1:PORT: no answer in 400ms",
		},
		"records of other names in the answer": {
			a:    answers(nettest.Func(withStranger)),
			want: "192.0.2.1",
		},
		"a referral": {
			a:    answers(nettest.Func(referral)),
			want: "server_failure: look up host.test at 127.0.0.1:PORT: lame referral: the server does not look names up",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nettest.NewDNS(t)
			s.Set("host.test", c.a...)
			if c.aaaa != nil {
				s.SetType("host.test", dns.TypeAAAA, c.aaaa...)
			}
			require.Equal(t, c.want, start(t, s, quick).look("host.test"), "%s", s)
		})
	}
}

func answers(a ...nettest.Answer) []nettest.Answer { return a }

// withStranger answers with an address of its own and one of another name, both
// in the answer and in the additional section.
func withStranger(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	if q.Question[0].Qtype != dns.TypeA {
		return m
	}
	own := &dns.A{
		Hdr: dns.RR_Header{Name: "HOST.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A:   []byte{192, 0, 2, 1},
	}
	other := &dns.A{
		Hdr: dns.RR_Header{Name: "other.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A:   nettest.StrayAddr.AsSlice(),
	}
	chaos := &dns.A{Hdr: dns.RR_Header{Name: "host.test.", Rrtype: dns.TypeA, Class: dns.ClassCHAOS, Ttl: 60}, A: other.A}
	m.Answer = []dns.RR{other, own, chaos}
	m.Extra = []dns.RR{other}
	return m
}

func referral(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = false
	m.Ns = []dns.RR{&dns.NS{
		Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: "ns.test.",
	}}
	return m
}

func TestAliasEndIsAskedFor(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.CNAME("a.test").TTL(300))
	s.Set("a.test", nettest.CNAME("b.test").TTL(20))
	s.Set("b.test", nettest.Addrs("192.0.2.1", "2001:db8::1").TTL(100))
	r := start(t, s)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.Equal(t, 6, len(s.Queries()))

	// The least TTL of the whole chain counts.
	r.advance(10 * time.Second) // later it may be asked for ahead of time
	r.look("host.test")
	require.Equal(t, 2, s.Asked("host.test"))
	r.advance(10 * time.Second)
	r.look("host.test")
	require.Equal(t, 4, s.Asked("host.test"))

	// A loop over several answers ends as well.
	s.Set("b.test", nettest.CNAME("host.test"))
	r.advance(time.Minute)
	require.Equal(t, "server_failure: look up b.test at 127.0.0.1:PORT: aliases form a loop", r.look("b.test"))
	s.Set("x.test", nettest.CNAME("y.test"))
	s.Set("y.test", nettest.NXDomain())
	require.Equal(t, "not_found: look up x.test: no such name (NXDOMAIN)", r.look("x.test"))
}

func TestServersInTurn(t *testing.T) {
	t.Parallel()
	good := nettest.NewDNS(t)
	good.Set("host.test", nettest.Addrs("192.0.2.1").TTL(0))
	for name, c := range map[string]struct {
		first  nettest.Answer
		closed bool
	}{
		"silent":    {first: nettest.Silent()},
		"SERVFAIL":  {first: nettest.ServFail()},
		"REFUSED":   {first: nettest.Refused()},
		"port shut": {closed: true},
		"lame":      {first: nettest.Func(referral)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := nettest.NewDNS(t)
			bad.Set("host.test", c.first)
			if c.closed {
				bad.Close()
			}
			r := start(t, bad, func(o *Options) { o.Servers = append(o.Servers, good.Addr()) })
			require.Equal(t, "192.0.2.1", r.look("host.test"))
		})
	}
}

func TestSilentServerIsAskedLast(t *testing.T) {
	t.Parallel()
	dead, good := nettest.NewDNS(t), nettest.NewDNS(t)
	dead.Set("host.test", nettest.Silent())
	good.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").TTL(0))
	r := start(t, dead, quick, func(o *Options) { o.Servers = append(o.Servers, good.Addr()) })
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.Equal(t, dead.Addr(), r.await(QueryTimeout).Server)
	dead.Forget()
	r.look("host.test")
	require.Empty(t, dead.Queries())
	r.advance(slowFor)
	r.look("host.test")
	require.NotEmpty(t, dead.Queries())
}

func TestLateAnswerStillCounts(t *testing.T) {
	t.Parallel()
	slow, dead := nettest.NewDNS(t), nettest.NewDNS(t)
	gate := make(chan struct{})
	slow.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").Gate(gate), nettest.Silent())
	dead.Set("host.test", nettest.Silent())
	r := start(t, slow, func(o *Options) {
		o.Servers = append(o.Servers, dead.Addr())
		o.Timeout = 2 * time.Second
	})
	go func() {
		r.await(QueryTimeout) // of the first try
		close(gate)
	}()
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
}

func TestTruncatedAnswerWithoutTCP(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1").Truncated())
	s.SetType("host.test", dns.TypeAAAA, nettest.NoData())
	r := start(t, s)
	r.look("host.test")
	require.Contains(t, s.Queries(), nettest.Query{Name: "host.test", Type: "A", Transport: "tcp"})
	require.Equal(t, "tcp", func() string {
		for e := range r.events {
			if e.Transport == "tcp" {
				return e.Transport
			}
		}
		return ""
	}())
}

func TestNamesThatAreNeverAsked(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	r := start(t, s)
	for name, want := range map[string]string{
		"localhost":       "127.0.0.1 ::1",
		"a.b.localhost":   "127.0.0.1 ::1",
		"x.invalid":       "not_found: look up x.invalid: no such name (NXDOMAIN)",
		"onion":           "not_found: look up onion: no such name (NXDOMAIN)",
		"":                "not_found: look up : not a host name",
		"a..b":            "not_found: look up a..b: not a host name",
		"a.b.":            "not_found: look up a.b.: not a host name",
		"A.test":          "not_found: look up A.test: not a host name",
		`a\.b`:            `not_found: look up a\.b: not a host name`,
		"a b":             "not_found: look up a b: not a host name",
		"192.0.2.1":       "not_found: look up 192.0.2.1: not a host name",
		"2001:db8::1":     "not_found: look up 2001:db8::1: not a host name",
		"www.ex\xc3\xa4m": "not_found: look up www.ex\xc3\xa4m: not a host name",
	} {
		require.Equal(t, want, r.look(name), name)
	}
	require.Empty(t, s.Queries())
}

func TestNewFails(t *testing.T) {
	t.Parallel()
	bad := write(t, "resolv.conf", "nameserver 192.0.2.1\nnameserver dns.test\n")
	empty := write(t, "resolv.conf", "search example.com\n")
	dir := t.TempDir()
	for want, o := range map[string]Options{
		"read " + bad + `: nameserver "dns.test" is not an IP address`: {ResolvConf: bad},
		"read " + empty + ": no nameserver is named":                   {ResolvConf: empty},
		"read " + dir + "/none: no nameserver is named":                {ResolvConf: dir + "/none"},
		"read " + dir + ": read " + dir + ": is a directory":           {ResolvConf: dir},
		"read /dev/null: server 192.0.2.1:0 is not ADDR:PORT": {
			ResolvConf: "/dev/null", Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")},
		},
		"start resolver: time-out -1s is negative": {Timeout: -time.Second},
	} {
		r, err := New(o)
		require.EqualError(t, err, want)
		require.Nil(t, r)
	}
}
