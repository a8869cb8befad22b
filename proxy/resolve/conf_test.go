package resolve

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestParseConf(t *testing.T) {
	t.Parallel()
	c, err := ParseConf([]byte("# comment\nnameserver 192.0.2.53\nnameserver ::ffff:192.0.2.54\nnameserver fe80::1%eth0\n" +
		"search Example.com. b.test .\noptions ndots:5 timeout:2 attempts:3 rotate edns0 trust-ad\nsortlist 1.2.3.4\n"))
	require.NoError(t, err)
	require.Equal(t, &Conf{
		Servers: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("192.0.2.54:53"),
			netip.MustParseAddrPort("[fe80::1%eth0]:53"),
		},
		Search: []string{"example.com", "b.test"}, Ndots: 5, Timeout: 2 * time.Second, Attempts: 3, Rotate: true,
	}, c)

	c, err = ParseConf(nil)
	require.NoError(t, err)
	require.Equal(t, &Conf{Ndots: 1, Timeout: 5 * time.Second, Attempts: 2}, c)

	c, err = ParseConf([]byte("search " + strings.Repeat("a.test ", 100) + "\n" + strings.Repeat("nameserver 192.0.2.1\n", 100)))
	require.NoError(t, err)
	require.Len(t, c.Search, maxSearch)
	require.Len(t, c.Servers, maxServers)
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	c := &Conf{Ndots: 3, Search: []string{"a.test", "b.test"}}
	for name, want := range map[string]string{
		"host":                   "host.a.test host.b.test host",
		"host.svc":               "host.svc host.svc.a.test host.svc.b.test",
		"a.b.c":                  "a.b.c a.b.c.a.test a.b.c.b.test",
		"www.example.com.au":     "www.example.com.au",
		strings.Repeat("a", 250): strings.Repeat("a", 250),
	} {
		require.Equal(t, want, strings.Join(c.candidates(name), " "))
	}
	c.Ndots = 0
	require.Equal(t, "host.a.test host.b.test host", strings.Join(c.candidates("host"), " "))
}

func TestSearchList(t *testing.T) {
	t.Parallel()
	conf := write(t, "resolv.conf", "search a.test b.test\noptions ndots:2\n")
	s := nettest.NewDNS(t)
	s.Set("registry.b.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	s.Set("git.svc.a.test", nettest.Addrs("192.0.2.2", "2001:db8::2"))
	s.Set("broken.a.test", nettest.ServFail())
	s.Set("broken.b.test", nettest.Addrs("192.0.2.3"))
	s.Set("www.example", nettest.Addrs("192.0.2.4", "2001:db8::4"))
	s.Set("none.a.test", nettest.NXDomain().TTL(5))
	r := start(t, s, func(o *Options) { o.ResolvConf = conf })
	asked := func() string {
		var names []string
		for _, q := range s.Queries() {
			if q.Type == "A" {
				names = append(names, q.Name)
			}
		}
		s.Forget()
		return strings.Join(names, " ")
	}
	for _, c := range []struct{ name, want, asked string }{
		{"registry", "192.0.2.1 2001:db8::1", "registry.a.test registry.b.test"},
		{"git.svc", "192.0.2.2 2001:db8::2", "git.svc git.svc.a.test"},
		{"www.example", "192.0.2.4 2001:db8::4", "www.example"},
		{"a.b.example", "not_found: look up a.b.example: no such name (NXDOMAIN)", "a.b.example"},
		// The next candidate would be another host.
		{"broken", "server_failure: look up broken at 127.0.0.1:PORT: SERVFAIL", "broken.a.test"},
		{"none", "not_found: look up none: no such name (NXDOMAIN)", "none.a.test none.b.test none"},
	} {
		require.Equal(t, c.want, r.look(c.name))
		require.Equal(t, c.asked, asked(), c.name)
	}
	// The least of all the negative answers' TTLs.
	r.advance(5 * time.Second)
	r.look("none")
	require.Equal(t, "none.a.test none.b.test none", asked())
}

func TestRotate(t *testing.T) {
	t.Parallel()
	u, err := newUpstream(&Conf{Rotate: true}, []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53"),
	})
	require.NoError(t, err)
	require.Equal(t, "192.0.2.1:53", u.order(0, 0)[0].addr.String())
	require.Equal(t, "192.0.2.2:53", u.order(0, 1)[0].addr.String())
	u.servers[1].slowUntil.Store(1)
	require.Equal(t, "192.0.2.1:53", u.order(0, 1)[0].addr.String())
	require.Equal(t, "192.0.2.2:53", u.order(1, 1)[0].addr.String())
}

func TestConfIsReadAgain(t *testing.T) {
	t.Parallel()
	conf := write(t, "resolv.conf", "search a.test\n")
	s := nettest.NewDNS(t)
	s.Set("host.longer.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	r := start(t, s, func(o *Options) { o.ResolvConf = conf })
	require.Equal(t, "not_found: look up host: no such name (NXDOMAIN)", r.look("host"))
	require.NoError(t, os.WriteFile(conf, []byte("search longer.test\n"), 0o600))
	r.advance(time.Minute)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host"))

	// What can't be used leaves what was.
	require.NoError(t, os.WriteFile(conf, []byte("nameserver dns.example.com\n"), 0o600))
	r.advance(time.Minute)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host"))
}

func TestParseHosts(t *testing.T) {
	t.Parallel()
	hosts := ParseHosts([]byte("\n# comment\n2001:db8::1 Host.test alias  # end\n192.0.2.1\thost.test.\n" +
		"192.0.2.1 host.test\n::ffff:192.0.2.2 mapped\nfe80::1%eth0 zoned\nnonsense host.test\n192.0.2.3\n"))
	require.Equal(t, map[string][]netip.Addr{
		"host.test": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		"alias":     {netip.MustParseAddr("2001:db8::1")},
		"mapped":    {netip.MustParseAddr("192.0.2.2")},
		"zoned":     {netip.MustParseAddr("fe80::1")},
	}, hosts)
}

func TestHostsFileComesFirst(t *testing.T) {
	t.Parallel()
	hosts := write(t, "hosts", "192.0.2.9 HOST.test\n")
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	r := start(t, s, func(o *Options) { o.HostsFile = hosts })
	require.Equal(t, "192.0.2.9", r.look("host.test"))
	require.Equal(t, []string{"local"}, r.kinds())
	require.Empty(t, s.Queries())

	// Read again when it changes, but not at every look-up.
	require.NoError(t, os.WriteFile(hosts, []byte("192.0.2.10 host.test\n"), 0o600))
	require.Equal(t, "192.0.2.9", r.look("host.test"))
	r.advance(watchEvery)
	require.Equal(t, "192.0.2.10", r.look("host.test"))
	require.NoError(t, os.Remove(hosts))
	r.advance(watchEvery)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.NoError(t, os.WriteFile(hosts, []byte("192.0.2.11 host.test\n"), 0o600))
	r.advance(watchEvery)
	require.Equal(t, "192.0.2.11", r.look("host.test"))
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "server_failure", Kind(0).String())
	require.Equal(t, "timeout", Timeout.String())
	require.Equal(t, "unknown", EventKind(0).String())
	for k := range eventNames {
		require.NotEqual(t, "unknown", k.String())
	}
	require.True(t, QueryError.IsQuery())
	require.False(t, LateAnswer.IsQuery())
	require.True(t, (&Error{Kind: Timeout}).Timeout())
	require.EqualError(t, &Error{Name: "a.test"}, "look up a.test: server_failure")
}
