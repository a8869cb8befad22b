package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func aa(s ...string) (list []netip.Addr) {
	for _, a := range s {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

// recorder stands for the resolver and the network, and writes down what is asked
// of them.
type recorder struct {
	t       testing.TB
	answers map[string][]netip.Addr
	fail    map[string]error // by destination; others connect
	hang    map[string]bool  // never answers

	mu     sync.Mutex
	looked []string
	dialed []string // "SOURCE>DESTINATION"
}

func (r *recorder) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = append(r.looked, name)
	if a := r.answers[name]; a != nil {
		return a, nil
	}
	return nil, &resolve.Error{Name: name, Kind: resolve.NotFound, Code: "NXDOMAIN"}
}

func (r *recorder) dial(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
	r.mu.Lock()
	from := "-"
	if source.IsValid() {
		from = source.String()
	}
	r.dialed = append(r.dialed, from+">"+dst.String())
	err, hang := r.fail[from+">"+dst.String()], r.hang[dst.String()]
	if err == nil {
		err = r.fail[dst.String()]
	}
	r.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return anyConn(r.t), nil
}

// anyConn is a connection to somewhere on loopback.
func anyConn(t testing.TB) *sock.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := dial.TCP(t.Context(), netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort())
	require.NoError(t, err)
	far, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); far.Close() })
	return c
}

func rules(t testing.TB, text string) *acl.Policy {
	p, err := acl.Parse(text)
	require.NoError(t, err)
	return p
}

func asking(t testing.TB, s string) *Request { return &Request{Target: target(t, s)} }

func target(t testing.TB, s string) acl.Target {
	tg, err := acl.ParseTarget(s)
	require.NoError(t, err)
	return tg
}

func TestOpen(t *testing.T) {
	answers := map[string][]netip.Addr{
		"pub.test":   aa("192.0.2.1"),
		"mixed.test": aa("10.0.0.1", "192.0.2.1", "10.0.0.2"),
		"priv.test":  aa("10.0.0.1"),
		"six.test":   aa("2001:db8::1"),
		"meta.test":  aa("169.254.169.254"),
		"none.test":  {},
	}
	const list = "!*.denied.test\n!10.0.0.0/8\n*"
	tests := []struct {
		name    string
		policy  string
		target  string
		sources []netip.Addr
		looked  []string
		dialed  []string
		err     string
		kind    Kind
	}{
		{name: "a name is resolved once and its address dialled", policy: list, target: "pub.test:443",
			looked: []string{"pub.test"}, dialed: []string{"->192.0.2.1:443"}},
		{name: "only the allowed address is dialled", policy: list, target: "mixed.test:443",
			looked: []string{"mixed.test"}, dialed: []string{"->192.0.2.1:443"}},
		{name: "no address allowed", policy: list, target: "priv.test:443", looked: []string{"priv.test"}, err: "denied", kind: Denied},
		{name: "guarded address", policy: list, target: "meta.test:80", looked: []string{"meta.test"}, err: "denied", kind: Denied},
		{name: "a denied name is not looked up", policy: list, target: "x.denied.test:443", err: "denied", kind: Denied},
		{name: "default deny is not looked up", policy: "pub.test", target: "other.test:443", err: "denied", kind: Denied},
		{name: "no rules", policy: "", target: "pub.test:443", err: "denied", kind: Denied},
		{name: "a literal is not looked up", policy: list, target: "192.0.2.9:1", dialed: []string{"->192.0.2.9:1"}},
		{name: "no such name", policy: list, target: "nx.test:443", looked: []string{"nx.test"},
			err: "look up nx.test: no such name (NXDOMAIN)", kind: DNSFailed},
		{name: "a name without an address", policy: list, target: "none.test:443", looked: []string{"none.test"},
			err: "look up none.test: no address", kind: DNSFailed},
		{name: "bound to the source", policy: list, target: "pub.test:443", sources: aa("198.51.100.1", "2001:db8::99"),
			looked: []string{"pub.test"}, dialed: []string{"198.51.100.1>192.0.2.1:443"}},
		{name: "bound to the source of the family", policy: list, target: "six.test:443", sources: aa("198.51.100.1", "2001:db8::99"),
			looked: []string{"six.test"}, dialed: []string{"2001:db8::99>[2001:db8::1]:443"}},
		{name: "no source of the family", policy: list, target: "six.test:443", sources: aa("198.51.100.1"), looked: []string{"six.test"},
			err: "no IPv6 source address for 2001:db8::1: EGRESS_SOURCE is 198.51.100.1", kind: Unroutable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{t: t, answers: answers}
			g := NewGate(r.lookup, r.dial, NewPool(nil, time.Minute))
			gen := policy.New(policy.Tenant{Rules: rules(t, tt.policy), Sources: policy.NewSources(tt.sources)})
			c, d, err := g.Blocking().Open(t.Context(), gen, asking(t, tt.target))
			assert.Equal(t, tt.looked, r.looked)
			assert.Equal(t, tt.dialed, r.dialed)
			if tt.err != "" {
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, tt.err, err.Error())
				assert.Equal(t, tt.kind, e.Kind)
				assert.Equal(t, tt.kind == Denied, d.Verdict == acl.Deny, "only the policy denies")
				assert.Nil(t, c)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, acl.Allow, d.Verdict)
			c.Close()
		})
	}
}

func TestNilGenerationDenies(t *testing.T) {
	r := &recorder{t: t}
	g := NewGate(r.lookup, r.dial, NewPool(nil, time.Minute))
	for _, gen := range []*policy.Generation{nil, {}, policy.New(policy.Tenant{})} {
		_, d, err := g.Blocking().Open(t.Context(), gen, asking(t, "192.0.2.1:443"))
		assert.EqualError(t, err, "denied")
		assert.Equal(t, acl.Deny, d.Verdict)
	}
	assert.Empty(t, r.dialed)
}

// A Route that no gate has made leads nowhere.
func TestZeroRoute(t *testing.T) {
	r := &recorder{t: t}
	g := NewGate(r.lookup, r.dial, NewPool(nil, time.Minute))
	_, err := g.Blocking().Connect(t.Context(), new(Route))
	assert.EqualError(t, err, "denied")
}

func TestConnectTriesTheNext(t *testing.T) {
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	tests := []struct {
		name   string
		addrs  []netip.Addr
		fail   map[string]error
		hang   map[string]bool
		dialed []string
		kind   Kind
		err    string
	}{
		{name: "families in turn, IPv6 first", addrs: aa("192.0.2.1", "192.0.2.2", "2001:db8::1"),
			fail:   map[string]error{"[2001:db8::1]:80": refused, "192.0.2.1:80": refused},
			dialed: []string{"->[2001:db8::1]:80", "->192.0.2.1:80", "->192.0.2.2:80"}},
		{name: "one that hangs is passed by", addrs: aa("2001:db8::1", "192.0.2.1"), hang: map[string]bool{"[2001:db8::1]:80": true},
			dialed: []string{"->[2001:db8::1]:80", "->192.0.2.1:80"}},
		{name: "all fail: every reason is told", addrs: aa("2001:db8::1", "192.0.2.1"),
			fail:   map[string]error{"[2001:db8::1]:80": os.NewSyscallError("connect", syscall.ENETUNREACH), "192.0.2.1:80": refused},
			dialed: []string{"->[2001:db8::1]:80", "->192.0.2.1:80"}, kind: Refused,
			err: "connect to [2001:db8::1]:80: network is unreachable; connect to 192.0.2.1:80: connection refused"},
		{name: "nothing is routable", addrs: aa("192.0.2.1"), fail: map[string]error{"192.0.2.1:80": syscall.EHOSTUNREACH},
			dialed: []string{"->192.0.2.1:80"}, kind: Unroutable, err: "connect to 192.0.2.1:80: no route to host"},
		{name: "no descriptors", addrs: aa("192.0.2.1"), fail: map[string]error{"192.0.2.1:80": syscall.EMFILE},
			dialed: []string{"->192.0.2.1:80"}, kind: NoDescriptors, err: "connect to 192.0.2.1:80: too many open files"},
		{name: "timed out by the kernel", addrs: aa("192.0.2.1"), fail: map[string]error{"192.0.2.1:80": syscall.ETIMEDOUT},
			dialed: []string{"->192.0.2.1:80"}, kind: ConnectTimeout, err: "connect to 192.0.2.1:80: connection timed out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{t: t, answers: map[string][]netip.Addr{"a.test": tt.addrs}, fail: tt.fail, hang: tt.hang}
			g := NewGate(r.lookup, r.dial, NewPool(nil, time.Minute))
			c, _, err := g.Blocking().Open(t.Context(), policy.New(policy.Tenant{Rules: rules(t, "*")}), asking(t, "a.test:80"))
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, tt.dialed, r.dialed)
			if tt.err == "" {
				require.NoError(t, err)
				c.Close()
				return
			}
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.kind, e.Kind)
			assert.Equal(t, tt.err, err.Error())
		})
	}
}

func TestConnectTimeLimit(t *testing.T) {
	for _, addrs := range [][]netip.Addr{aa("192.0.2.1"), aa("192.0.2.1", "192.0.2.2")} {
		r := &recorder{t: t, answers: map[string][]netip.Addr{"a.test": addrs},
			hang: map[string]bool{"192.0.2.1:80": true, "192.0.2.2:80": true}}
		g := NewGate(r.lookup, r.dial, NewPool(nil, time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, _, err := g.Blocking().Open(ctx, policy.New(policy.Tenant{Rules: rules(t, "*")}), asking(t, "a.test:80"))
		cancel()
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, ConnectTimeout, e.Kind)
	}
}

// The second source carries what the first has no port for, and nothing else.
func TestNextSourceWhenPortsRunOut(t *testing.T) {
	r := &recorder{t: t, fail: map[string]error{"198.51.100.1>192.0.2.1:80": syscall.EADDRNOTAVAIL, "198.51.100.1>192.0.2.2:80": syscall.ECONNREFUSED}}
	g := NewGate(r.lookup, r.dial, NewPool(nil, time.Minute))
	gen := policy.New(policy.Tenant{Rules: rules(t, "*"), Sources: policy.NewSources(aa("198.51.100.1", "198.51.100.2"))})
	c, _, err := g.Blocking().Open(t.Context(), gen, asking(t, "192.0.2.1:80"))
	require.NoError(t, err)
	assert.Equal(t, "198.51.100.2", c.Source.String())
	_, _, err = g.Blocking().Open(t.Context(), gen, asking(t, "192.0.2.2:80"))
	assert.Error(t, err)
	assert.Equal(t, []string{"198.51.100.1>192.0.2.1:80", "198.51.100.2>192.0.2.1:80", "198.51.100.1>192.0.2.2:80"}, r.dialed)
}

func TestInterleave(t *testing.T) {
	tests := []struct{ want, in []netip.Addr }{
		{aa("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"), aa("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")},
		{aa("2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"), aa("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3")},
		{aa("192.0.2.2", "192.0.2.1"), aa("192.0.2.2", "192.0.2.1")},
		{aa("2001:db8::2", "2001:db8::1"), aa("2001:db8::2", "2001:db8::1")},
		{nil, nil},
	}
	for _, tt := range tests {
		interleave(tt.in)
		assert.Equal(t, tt.want, tt.in)
	}
}

func TestCheckSources(t *testing.T) {
	assert.NoError(t, CheckSources(policy.NewSources(aa("127.0.0.5"))))
	err := CheckSources(policy.NewSources(aa("127.0.0.1", "192.0.2.77")))
	require.Error(t, err)
	assert.Regexp(t, `^EGRESS_SOURCE 192\.0\.2\.77 is not an address of this host \(it has .*127\.0\.0\.1.*\): let sluice-netsetup assign it first, or name one of these$`, err.Error())
}

// An idle connection that is registered with a loop leaves the pool when its server closes it
// or says something, and one that is quiet stays.
func TestPoolWatches(t *testing.T) {
	loops := new(poll.Loops)
	defer loops.Close()
	l, err := loops.Next()
	require.NoError(t, err)
	p := NewPool(fdbudget.New(10), time.Minute)
	defer p.Close()
	for _, last := range []string{"close", "speak"} {
		var fars []net.Conn
		for range 2 {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			c := &Conn{connLife: connLife{Dst: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 80)}}
			c.TCP, err = dial.TCP(t.Context(), netip.Addr{}, ln.Addr().(*net.TCPAddr).AddrPort())
			require.NoError(t, err)
			far, err := ln.Accept()
			require.NoError(t, err)
			defer far.Close()
			ln.Close()
			c.TCP.Share() // somebody has waited for it
			require.NoError(t, c.Register(l, c))
			p.Put(c, time.Now())
			fars = append(fars, far)
		}
		require.Equal(t, 2, p.Len())
		if last == "close" {
			fars[0].Close()
		} else {
			fars[0].Write([]byte("HTTP/1.1 408 Request Timeout"))
		}
		nettest.Eventually(t, "one is left", func() bool { return p.Len() == 1 })
		c := p.Get(&Route{addrs: aa("192.0.2.1"), port: 80}, "")
		require.NotNil(t, c)
		c.Deregister()
		_, err = c.Blocking().Write([]byte("x"))
		require.NoError(t, err)
		_, err = fars[1].Read(make([]byte, 1))
		assert.NoError(t, err, "the other one was left")
		c.Close()
	}
}

// BeginConnect leaves to Connect what takes more than one attempt.
func TestBeginConnect(t *testing.T) {
	g := NewGate(nil, nil, nil)
	route := func(port uint16, sources ...string) *Route {
		return &Route{addrs: aa("127.0.0.1"), port: port, sources: policy.NewSources(aa(sources...))}
	}
	_, _, able, _ := g.BeginConnect(route(80))
	assert.False(t, able, "no way to begin")
	g.Begin = dial.Begin
	_, _, able, _ = g.BeginConnect(route(80, "127.0.0.1", "127.0.0.2"))
	assert.False(t, able, "two sources")
	_, _, able, _ = g.BeginConnect(route(80, "::1"))
	assert.False(t, able, "no source of the family")
	two := route(80)
	two.addrs = aa("127.0.0.1", "127.0.0.2")
	_, _, able, _ = g.BeginConnect(two)
	assert.False(t, able, "two addresses")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	c, connecting, able, err := g.BeginConnect(route(port, "127.0.0.9"))
	require.NoError(t, err)
	assert.True(t, able)
	assert.False(t, connecting)
	assert.Equal(t, "127.0.0.9", c.Local().String())
	c.Close()
	l.Close()
	_, _, able, err = g.BeginConnect(route(port))
	assert.True(t, able)
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, Refused, e.Kind)
	assert.Equal(t, fmt.Sprintf("connect to 127.0.0.1:%d: connection refused", port), err.Error())
}

// AdmitNow says as Admit does where it knows, and nothing elsewhere.
func TestAdmitNow(t *testing.T) {
	g := NewGate(nil, nil, nil)
	gen := policy.New(policy.Tenant{Rules: rules(t, "!*.bad.test\n192.0.2.0/24\n*.test")})
	admit := func(s string) (bool, *Ticket, error) {
		r := new(Ticket)
		known, err := g.AdmitNow(gen, asking(t, s), r)
		return known, r, err
	}
	known, r, err := admit("192.0.2.7:80")
	assert.True(t, known)
	assert.NoError(t, err)
	assert.Equal(t, aa("192.0.2.7"), r.Route.Addrs())
	known, _, err = admit("198.51.100.1:80")
	assert.True(t, known)
	assert.ErrorIs(t, err, errDenied)
	known, _, err = admit("x.bad.test:80")
	assert.True(t, known)
	assert.ErrorIs(t, err, errDenied)
	known, _, _ = admit("a.test:80")
	assert.False(t, known, "no name is known")
	g.Known = func(name string) ([]netip.Addr, bool, error) { return aa("203.0.113.1"), name == "a.test", nil }
	known, r, err = admit("a.test:80")
	assert.True(t, known)
	assert.NoError(t, err)
	assert.Equal(t, aa("203.0.113.1"), r.Route.Addrs())
	known, _, _ = admit("b.test:80")
	assert.False(t, known)
	known, err = g.AdmitNow(nil, asking(t, "a.test:80"), new(Ticket))
	assert.True(t, known)
	assert.ErrorIs(t, err, errDenied)
}

// AdmitAddr judges one address by what is in force now, and leads nowhere else.
func TestAdmitAddr(t *testing.T) {
	g := NewGate(nil, nil, nil)
	admit := func(list, target, addr string) ([]netip.Addr, acl.Verdict, error) {
		r := new(Ticket)
		err := g.AdmitAddr(policy.New(policy.Tenant{Rules: rules(t, list)}), asking(t, target), netip.MustParseAddr(addr), r)
		return r.Route.Addrs(), r.Decision.Verdict, err
	}
	addrs, verdict, err := admit("!192.0.2.0/24\na.test", "a.test:80", "198.51.100.1")
	assert.NoError(t, err)
	assert.Equal(t, acl.Allow, verdict)
	assert.Equal(t, aa("198.51.100.1"), addrs)
	addrs, verdict, err = admit("!192.0.2.0/24\na.test", "a.test:80", "192.0.2.1")
	assert.ErrorIs(t, err, errDenied)
	assert.Equal(t, acl.Deny, verdict)
	assert.Empty(t, addrs)
	addrs, _, err = admit("*", "198.51.100.1:80", "192.0.2.1") // an address is its own only one
	assert.NoError(t, err)
	assert.Equal(t, aa("198.51.100.1"), addrs)
	addrs, _, err = admit("*", "a.test:80", "127.0.0.1") // the guard
	assert.ErrorIs(t, err, errDenied)
	assert.Empty(t, addrs)
}

// What a check refuses has no route, whichever half of admission asks it; and no check is
// asked about what the rules deny.
func TestChecks(t *testing.T) {
	known := func(string) ([]netip.Addr, bool, error) { return aa("192.0.2.1"), true, nil }
	lookup := func(context.Context, string) ([]netip.Addr, error) { return aa("192.0.2.1"), nil }
	refused := &Error{Kind: Denied, Err: errors.New("no")}
	asked := 0
	g := NewGate(lookup, nil, nil)
	g.Known, g.Name = known, "me"
	g.Checks = []Check{func(r *Request, t *Ticket) error {
		asked++
		if r.Client == netip.MustParseAddr("192.0.2.66") {
			return refused
		}
		return nil
	}}
	gen := policy.New(policy.Tenant{Rules: rules(t, "!bad.test\n*")})
	halves := map[string]func(*Request, *Ticket) error{
		"Admit":     func(r *Request, k *Ticket) error { return g.Blocking().Admit(t.Context(), gen, r, k) },
		"AdmitNow":  func(r *Request, k *Ticket) error { _, err := g.AdmitNow(gen, r, k); return err },
		"AdmitAddr": func(r *Request, k *Ticket) error { return g.AdmitAddr(gen, r, netip.MustParseAddr("192.0.2.1"), k) },
	}
	for name, half := range halves {
		for _, to := range []string{"a.test:80", "192.0.2.1:80"} {
			r, k := asking(t, to), new(Ticket)
			assert.NoError(t, half(r, k), name)
			assert.Equal(t, 1, k.Route.Len())
			r.Client = netip.MustParseAddr("192.0.2.66")
			assert.Equal(t, refused, half(r, k), name)
			assert.Zero(t, k.Route.Len(), name)
			r.Client = netip.Addr{}
			r.HTTP = new(http1.Request)
			_, err := r.HTTP.Parse([]byte("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 you, 1.1 me\r\n\r\n"), http1.Limits{MaxHead: 1000, MaxFields: 10})
			require.NoError(t, err)
			assert.Equal(t, errLooped, half(r, k), name)
			assert.Zero(t, k.Route.Len(), name)
		}
		before := asked
		assert.ErrorIs(t, half(asking(t, "bad.test:80"), new(Ticket)), errDenied)
		assert.Equal(t, before, asked)
	}
}

// Every address is judged: the rules may allow only the last of many.
func TestLastOfManyAddresses(t *testing.T) {
	many := make([]netip.Addr, 1000)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	last := netip.MustParseAddr("2001:db8::1")
	lookup := func(context.Context, string) ([]netip.Addr, error) { return append(many, last), nil }
	g := NewGate(lookup, nil, nil)
	var r Ticket
	require.NoError(t, g.Blocking().Admit(t.Context(), policy.New(policy.Tenant{Rules: rules(t, "2001:db8::1\n")}), asking(t, "a.test:80"), &r))
	assert.Equal(t, []netip.Addr{last}, r.Route.Addrs())
	require.NoError(t, g.Blocking().Admit(t.Context(), policy.New(policy.Tenant{Rules: rules(t, "*\n")}), asking(t, "a.test:80"), &r))
	assert.Equal(t, append([]netip.Addr{last}, many...), r.Route.Addrs())
}

func TestLookupErrors(t *testing.T) {
	for kind, want := range map[resolve.Kind]Kind{
		resolve.ServerFailure: DNSFailed, resolve.NotFound: DNSFailed, resolve.Timeout: DNSTimeout, resolve.Busy: DNSBusy,
	} {
		var e *Error
		require.ErrorAs(t, lookupError(&resolve.Error{Kind: kind}), &e)
		assert.Equal(t, want, e.Kind)
	}
}

func TestPool(t *testing.T) {
	budget := fdbudget.New(2)
	p := NewPool(budget, time.Minute)
	route := func(s string) *Route {
		return &Route{addrs: aa(s), port: 80}
	}
	put := func(dst string, at time.Time) *Conn {
		c := &Conn{TCP: anyConn(t), connLife: connLife{Dst: netip.AddrPortFrom(netip.MustParseAddr(dst), 80)}}
		p.Put(c, at)
		return c
	}
	closed := func(c *Conn) bool {
		_, err := c.TCP.Blocking().Write(nil)
		return errors.Is(err, net.ErrClosed)
	}
	now := time.Unix(1000, 0)
	a := put("192.0.2.1", now)
	b := put("192.0.2.1", now.Add(time.Second))
	over := put("192.0.2.2", now)
	assert.True(t, closed(over), "no room in the budget")
	assert.Nil(t, p.Get(route("192.0.2.2"), ""))
	assert.Nil(t, p.Get(route("192.0.2.1"), "tls.test"), "a plain connection is no TLS one")
	bound := route("192.0.2.1")
	bound.sources = policy.NewSources(aa("127.0.0.1"))
	assert.Nil(t, p.Get(bound, ""), "another source")
	other := route("192.0.2.1")
	other.tenant = "other"
	assert.Nil(t, p.Get(other, ""), "another tenant")
	with := route("192.0.2.1")
	with.credential = "of another"
	assert.Nil(t, p.Get(with, ""), "another credential")
	assert.False(t, with.Leads(b, ""), "another credential")
	assert.Same(t, b, p.Get(route("192.0.2.1"), ""), "the one used last comes first")
	assert.EqualValues(t, 1, budget.Left())
	p.Put(b, now.Add(2*time.Second))
	p.Sweep(now.Add(time.Minute))
	assert.True(t, closed(a), "idle for a minute")
	assert.False(t, closed(b))
	assert.Equal(t, 1, p.Evict(5))
	assert.True(t, closed(b))
	assert.EqualValues(t, 2, budget.Left())
	put("192.0.2.1", now)
	p.Close()
	assert.Zero(t, p.Len())
	assert.True(t, closed(put("192.0.2.1", now)), "put back after Close")
	assert.EqualValues(t, 2, budget.Left())
}
