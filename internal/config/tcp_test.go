package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

func (g given) loadTCP(t testing.TB) (*TCP, error) {
	t.Helper()
	flags := pflag.NewFlagSet("tcp", pflag.ContinueOnError)
	settings.AddFlags(flags, TCPSettings())
	require.NoError(t, flags.Parse(g.args))
	return LoadTCP(settings.Input{Flags: flags, Environ: g.env, ReadFile: func(path string) ([]byte, error) {
		text, ok := g.files[path]
		if !ok {
			return nil, fmt.Errorf("open %s: no such file", path)
		}
		return []byte(text), nil
	}})
}

// show writes listeners as one line each.
func show(c *TCP) string {
	var b strings.Builder
	for _, li := range c.Listeners {
		fmt.Fprintf(&b, "%s >", li.Listen)
		for _, r := range li.Routes {
			fmt.Fprintf(&b, " %v=%s", r.Names, hosts(r.Destinations))
		}
		fmt.Fprintf(&b, " %s\n", hosts(li.Destinations))
	}
	return b.String()
}

func hosts(ts []acl.Target) string {
	var all []string
	for _, t := range ts {
		all = append(all, fmt.Sprintf("%s|%d", t.Host, t.Port))
	}
	return strings.Join(all, ",")
}

// The situations of the original script's tests, written afresh, and the ones it
// gets wrong.
func TestDestinationLines(t *testing.T) {
	t.Parallel()
	const v = "EGRESS_DNS_PROXY_DESTINATION"
	tests := []struct {
		text string
		want string // listeners, or problems
	}{
		{"80 11.12.13.14", ":80 > 11.12.13.14|80\n"},
		{"80 11.12.13.14\n8080 11.12.13.15 80", ":80 > 11.12.13.14|80\n:8080 > 11.12.13.15|80\n"},
		{"80 www.example.com", ":80 > www.example.com|80\n"},
		{"80 www.example.com 8080\n\n# a comment\n  # another\n443 203.0.113.1\n", ":80 > www.example.com|8080\n:443 > 203.0.113.1|443\n"},
		{"80\twww.example.com\t\t8080  \r\n", ":80 > www.example.com|8080\n"}, // tabs, CRLF
		{"\ufeff80 db # behind", ":80 > db|80\n"},                             // BOM, trailing comment, no dot
		{"80 A_b.Example.COM.", ":80 > a_b.example.com|80\n"},
		{"80 2001:db8::1\n81 [2001:db8::2] 443", ":80 > 2001:db8::1|80\n:81 > 2001:db8::2|443\n"},
		{"80 ::ffff:192.0.2.1", ":80 > 192.0.2.1|80\n"},
		{"1 a.test\n65535 b.test 65535", ":1 > a.test|1\n:65535 > b.test|65535\n"},

		{"0 1.2.3.4", v + ": Invalid port: 0, must be in the range 1 to 65535"},
		{"65536 1.2.3.4", v + ": Invalid port: 65536, must be in the range 1 to 65535"},
		{"080 1.2.3.4", v + ": Invalid port: 080, must be in the range 1 to 65535"},
		{"80 1.2.3.4 99999999999999999999", v + ": Invalid port: 99999999999999999999, must be in the range 1 to 65535"},
		{"80 1.2.3.4 0", v + ": Invalid port: 0, must be in the range 1 to 65535"},
		{"80 a.test\n80 b.test", v + ":2: Proxy port 80 already used, must be unique for each destination"},
		{"80 a.test\n8080 b.test 80\n80 c.test 81", v + ":3: Proxy port 80 already used, must be unique for each destination"},
		{"80", v + ": Bad destination '80': want PORT HOST [REMOTEPORT]"},
		{"1.2.3.4", v + ": Bad destination '1.2.3.4': want PORT HOST [REMOTEPORT]"},
		{"80 tcp a.test 81", v + ": Bad destination '80 tcp a.test 81': want PORT HOST [REMOTEPORT]"},
		{"a.test 80", v + ": Bad destination 'a.test 80': want PORT HOST [REMOTEPORT], as in: 80 a.test"},
		{"8443 example.com:443", v + ": Bad destination '8443 example.com:443': want PORT HOST [REMOTEPORT], as in: 8443 example.com 443"},
		{"80 a.test\n8443 [2001:db8::1]:443 # x", v + ":2: Bad destination '8443 [2001:db8::1]:443': want PORT HOST [REMOTEPORT], as in: 8443 2001:db8::1 443"},
		{"example.com:443", v + ": Bad destination 'example.com:443': want PORT HOST [REMOTEPORT], as in: 443 example.com"},
		{"a.test b.test", v + ": Bad destination 'a.test b.test': PORT is not a number"},
		{"-1 a.test", v + ": Bad destination '-1 a.test': PORT is not a number"},
		{"80 a.test http", v + ": Bad destination '80 a.test http': REMOTEPORT is not a number"},
		{"80 0.0.0.0", v + ": Bad destination '80 0.0.0.0': 0.0.0.0 is no address of one host"},
		{"80 224.0.0.1", v + ": Bad destination '80 224.0.0.1': 224.0.0.1 is no address of one host"},
		{"# nothing\n\n", v + ": Must specify EGRESS_DNS_PROXY_DESTINATION: one PORT HOST [REMOTEPORT] a line, or the list tcp in a file named with --config"},
		{"", v + ": Must specify EGRESS_DNS_PROXY_DESTINATION: one PORT HOST [REMOTEPORT] a line, or the list tcp in a file named with --config"},
	}
	for _, tt := range tests {
		c, err := given{env: []string{v + "=" + tt.text}}.loadTCP(t)
		if err != nil {
			assert.Equal(t, tt.want, err.Error(), "%q", tt.text)
			continue
		}
		assert.Equal(t, tt.want, show(c), "%q", tt.text)
		assert.Equal(t, v, c.Origin)
	}
}

// What is no host is refused by the parser of acl, whose words follow.
func TestDestinationHosts(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"*.example.com", "*", "1.2.3", "999.1.1.1", "1.2.3.4/24", "http://a.test", "a..test", "a.test:80", "0x7f000001", "fe80::1%eth0", "u@a.test", `a\b`, "bücher.test"} {
		_, err := given{env: []string{"EGRESS_DNS_PROXY_DESTINATION=80 ok.test\n81 " + host}}.loadTCP(t)
		require.Error(t, err, host)
		assert.Regexp(t, `^EGRESS_DNS_PROXY_DESTINATION:2: Bad destination '81 \Q`+host+`\E': .+$`, err.Error())
	}
}

// Every mistake is told at once, in the order of the text.
func TestDestinationProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := given{env: []string{"EGRESS_SOURCE=x", "EGRESS_DNS_PROXY_DESTINATION=80 a.test\nfoo\n0 b.test 70000\n80 c.test"}, args: []string{"--idle-timeout=soon"}}.loadTCP(t)
	require.EqualError(t, err, `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "x" is not ADDR or ADDR/LEN
--idle-timeout: "soon" is no duration; write 30s, 5m or 1h30m
EGRESS_DNS_PROXY_DESTINATION:2: Bad destination 'foo': want PORT HOST [REMOTEPORT]
EGRESS_DNS_PROXY_DESTINATION:3: Invalid port: 0, must be in the range 1 to 65535
EGRESS_DNS_PROXY_DESTINATION:3: Invalid port: 70000, must be in the range 1 to 65535
EGRESS_DNS_PROXY_DESTINATION:4: Proxy port 80 already used, must be unique for each destination`)
}

func TestServiceVariables(t *testing.T) {
	t.Parallel()
	c, err := given{env: []string{"SERVICE_NAME=orders", "SERVICE_TCP_PORT=5432", "SERVICE_DEST=db.example.com", "SERVICE_DEST_PORT=15432"}}.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, ":5432 > db.example.com|15432\n", show(c))
	assert.Equal(t, "orders", c.Listeners[0].Name)
	c, err = given{env: []string{"SERVICE_TCP_PORT=5432", "SERVICE_DEST=192.0.2.1"}}.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, ":5432 > 192.0.2.1|5432\n", show(c))
	c, err = given{env: []string{"SERVICE_TCP_PORT=1", "SERVICE_DEST=a.test", "STATS_PORT=1999", "CONFIG_FILE=/c", "TZ=UTC"}}.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, "CONFIG_FILE: not used: haproxy's configuration is not read; name destinations in SERVICE_DEST, or in a file named with --config\n"+
		"STATS_PORT: not used: status page and metrics are on the admin port, --admin", c.Warnings.Error())
	for dest, want := range map[string]string{ // as the image documents it
		"1.2.3.4;5.6.7.8":                      "1.2.3.4|8080,5.6.7.8|8080",
		"1.2.3.4;5.6.7.8:81;[2001:db8::1]:82;": "1.2.3.4|8080,5.6.7.8|81,2001:db8::1|82",
		" db.example.com:5433 ; 2001:db8::2 ":  "db.example.com|5433,2001:db8::2|8080",
	} {
		c, err = given{env: []string{"SERVICE_TCP_PORT=13443", "SERVICE_DEST_PORT=8080", "SERVICE_DEST=" + dest}}.loadTCP(t)
		require.NoError(t, err)
		assert.Equal(t, ":13443 > "+want+"\n", show(c))
	}
	for _, tt := range []struct{ env, want string }{
		{"SERVICE_DEST=a.test;b.test:0;a.test;c d|SERVICE_TCP_PORT=1", "SERVICE_DEST: Bad destination 'b.test:0': port 0 cannot be connected to; write a number from 1 to 65535\n" +
			"SERVICE_DEST: Bad destination 'a.test': it stands in this list already\nSERVICE_DEST: Bad destination 'c d': "},
		{"SERVICE_DEST=;|SERVICE_TCP_PORT=1", "SERVICE_DEST: Bad destination '': "},
		{"SERVICE_DEST=a.test", "SERVICE_TCP_PORT: is not set: it is the port to listen on"},
		{"SERVICE_DEST=a test|SERVICE_TCP_PORT=1", "SERVICE_DEST: Bad destination 'a test': "},
		{"SERVICE_DEST=a.test|SERVICE_TCP_PORT=x|SERVICE_DEST_PORT=0", "SERVICE_TCP_PORT: Invalid port: x, must be in the range 1 to 65535\nSERVICE_DEST_PORT: Invalid port: 0, must be"},
		{"SERVICE_DEST=a.test|SERVICE_TCP_PORT=1|EGRESS_DNS_PROXY_DESTINATION=1 b.test", "SERVICE_DEST: EGRESS_DNS_PROXY_DESTINATION is set as well; keep one of them"},
		{"SERVICE_TCP_PORT=1|SERVICE_NAME=x", "EGRESS_DNS_PROXY_DESTINATION: Must specify EGRESS_DNS_PROXY_DESTINATION"},
	} {
		_, err := given{env: strings.Split(tt.env, "|")}.loadTCP(t)
		require.Error(t, err, tt.env)
		assert.Contains(t, err.Error(), tt.want)
	}
}

func tcpFile(text string) given {
	return given{args: []string{"--config=/c"}, files: map[string]string{"/c": text}}
}

func TestTCPFile(t *testing.T) {
	t.Parallel()
	c, err := tcpFile(`
destinations: |
  80 a.test
  # the other
  81 b.test 8081
balance: source-hash
checkRise: 5
idleTimeout: 1h
tcp:
- listen: 5432
  name: orders
  balance: least-connections
  destinations: [db1.test, "db2.test:15432", "[2001:db8::1]:5433", 192.0.2.9]
  sendProxy: v2
  acceptProxy: [10.0.0.0/8, 192.0.2.1]
  check: {interval: 2s, fall: 1}
- listen: 127.0.0.1:0
  sni:
  - names: [A.example.com, "*.b.example.com"]
    destinations: 10.0.0.1:443
  - names: c.example.com
    destinations: [10.0.0.2:8443, 10.0.0.3:8443]
  destinations: 10.0.0.4:443
`).loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, `:80 > a.test|80
:81 > b.test|8081
:5432 > db1.test|5432,db2.test|15432,2001:db8::1|5433,192.0.2.9|5432
127.0.0.1:0 > [a.example.com *.b.example.com]=10.0.0.1|443 [c.example.com]=10.0.0.2|8443,10.0.0.3|8443 10.0.0.4|443
`, show(c))
	assert.Equal(t, "source-hash", c.Listeners[0].Balance)
	assert.Equal(t, TCPCheck{Rise: 5, Fall: 3}, c.Listeners[0].Check)
	o := c.Listeners[2]
	assert.Equal(t, "orders", o.Name)
	assert.Equal(t, "least-connections", o.Balance)
	assert.Equal(t, "v2", o.SendProxy)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}, o.AcceptProxy)
	assert.Equal(t, TCPCheck{Interval: 2 * time.Second, Rise: 5, Fall: 1}, o.Check)
	assert.Equal(t, time.Hour, c.IdleTimeout)
	assert.Equal(t, []string{"/c"}, c.Watch)
	assert.Equal(t, 10, c.Policy.Len())
}

func TestTCPFileProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"tcp: x", `/c:1: "tcp" wants a list, each with "listen" and "destinations"`},
		{"destinations: []", "EGRESS_DNS_PROXY_DESTINATION: Must specify EGRESS_DNS_PROXY_DESTINATION: one"},
		{"tcp: []", "EGRESS_DNS_PROXY_DESTINATION: Must specify EGRESS_DNS_PROXY_DESTINATION: one"},
		{"tcp:\n- 5", "/c:2: not a list of keys and values\n/c:2: no \"listen\": PORT or ADDR:PORT"},
		{"tcp:\n- listen: 80\n", `/c:2: no "destinations": HOST or HOST:PORT, one or a list`},
		{"tcp:\n- destinations: a.test\n", `/c:2: no "listen": PORT or ADDR:PORT`},
		{"tcp:\n- listen: 80\n  destinatoins: a.test\n", `/c:3: unknown key "destinatoins"; did you mean destinations?`},
		{"tcp:\n- listen: 80\n  listen: 81\n  destinations: a.test\n", `/c:3: "listen" stands in line 2 already`},
		{"tcp:\n- listen: 80\n  destinations: [a.test, '*.b.test']\n", "/c:3: Bad destination '*.b.test': "},
		{"tcp:\n- listen: 80\n  destinations: [a.test, A.test]\n", "/c:3: Bad destination 'A.test': it stands in this list already"},
		{"tcp:\n- listen: :0\n  destinations: a.test\n", "/c:3: Bad destination 'a.test': no port; write a number"},
		{"tcp:\n- listen: 99999\n  destinations: a.test\n", "/c:2: Invalid port: 99999, must be in the range 1 to 65535"},
		{"tcp:\n- listen: here:80\n  destinations: a.test\n", `/c:2: "here:80" is no address to listen at; write PORT, ADDR:PORT or [ADDR]:PORT`},
		{"tcp:\n- listen: 80\n  destinations: a.test\n- listen: 127.0.0.1:80\n  destinations: b.test\n", "/c:4: Proxy port 80 already used, must be unique for each destination"},
		{"tcp:\n- listen: 127.0.0.1:80\n  destinations: a.test\n- listen: 80\n  destinations: b.test\n", "/c:4: Proxy port 80 already used, must be unique for each destination"},
		{"tcp:\n- listen: 80\n  destinations: a.test\n  balance: random\n", `/c:4: "random" is none of round-robin, least-connections, source-hash`},
		{"tcp:\n- listen: 80\n  destinations: a.test\n  check: {interval: 1ms}\n", "/c:4: 1ms is out of range: from 100ms to 1h"},
		{"tcp:\n- listen: 80\n  destinations: a.test\n  sni: {}\n", `/c:4: "sni" wants a list, each with "names" and "destinations"`},
		{"tcp:\n- listen: 80\n  sni:\n  - names: [10.0.0.1, a.test, a.test]\n    destinations: b.test\n", "/c:4: \"10.0.0.1\" is no server name; write name or *.domain\n/c:4: \"a.test\" stands in this list already"},
		{"tcp:\n- listen: 80\n  sni:\n  - names: a.test\n", `/c:4: an item of "sni" wants "names" and "destinations"`},
		{"tcp:\n- listen: 80\n  destinations:\n", `/c:3: "destinations" has no value`},
		{"admin: :80\ndestinations: 80 a.test", "/c:2: Proxy port 80 already used, by the admin port (--admin)"},
		{"tcpp: []", `/c:1: unknown key "tcpp"; did you mean tcp?`},
	} {
		_, err := tcpFile(tt.text).loadTCP(t)
		require.Error(t, err, tt.text)
		assert.Contains(t, err.Error(), tt.want)
	}
}

// A flag wins over the environment, the environment over the file.
func TestTCPPrecedence(t *testing.T) {
	t.Parallel()
	g := tcpFile("destinations: 80 file.test\n")
	c, err := g.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, ":80 > file.test|80\n", show(c))
	g.env = []string{"EGRESS_DNS_PROXY_DESTINATION=80 env.test"}
	c, err = g.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, ":80 > env.test|80\n", show(c))
	assert.Equal(t, "/c: its destinations are not used: EGRESS_DNS_PROXY_DESTINATION wins", c.Warnings.Error())
	g.args = append(g.args, "--destination=80 flag.test", "--destination", "81 flag.test 1\n82 more.test", "--bind=127.0.0.1,::1")
	c, err = g.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:80 > flag.test|80\n[::1]:80 > flag.test|80\n127.0.0.1:81 > flag.test|1\n[::1]:81 > flag.test|1\n127.0.0.1:82 > more.test|82\n[::1]:82 > more.test|82\n", show(c))
}

func TestTCPDefaults(t *testing.T) {
	t.Parallel()
	c, err := given{env: []string{"EGRESS_DNS_PROXY_DESTINATION=80 a.test"}}.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:9090", c.Admin)
	assert.Equal(t, 10*time.Second, c.ConnectTimeout)
	assert.Zero(t, c.IdleTimeout)
	assert.Empty(t, c.AccessLog)
	assert.Empty(t, c.Warnings)
	assert.Equal(t, TCPCheck{Rise: 2, Fall: 3}, c.Listeners[0].Check)
	assert.Equal(t, "round-robin", c.Listeners[0].Balance)
	c, err = given{env: []string{"EGRESS_DNS_PROXY_DESTINATION=80 a.test", "EGRESS_DNS_PROXY_DEBUG=1"}}.loadTCP(t)
	require.NoError(t, err)
	assert.Equal(t, "-", c.AccessLog)
	c, err = given{env: []string{"EGRESS_DNS_PROXY_DESTINATION=80 a.test", "EGRESS_DNS_PROXY_DEBUG=1"}, args: []string{"--access-log=off"}}.loadTCP(t)
	require.NoError(t, err)
	assert.Empty(t, c.AccessLog)
}

// An address that is written down unlocks itself; a name unlocks nothing.
func TestTCPPolicy(t *testing.T) {
	t.Parallel()
	c, err := given{env: []string{"EGRESS_DNS_PROXY_DESTINATION=80 127.0.0.1\n81 a.test"}}.loadTCP(t)
	require.NoError(t, err)
	lo := netip.MustParseAddr("127.0.0.1")
	host := func(name string) acl.Host {
		h, err := acl.ParseHost(name)
		require.NoError(t, err)
		return h
	}
	assert.Equal(t, acl.Allow, c.Policy.DecideHost(acl.Target{Host: host("127.0.0.1"), Port: 80}).Verdict)
	assert.Equal(t, acl.Deny, c.Policy.DecideHost(acl.Target{Host: host("127.0.0.1"), Port: 81}).Verdict)
	assert.Equal(t, acl.Deny, c.Policy.DecideAddr(acl.Target{Host: host("a.test"), Port: 81}, lo).Verdict)
	assert.Equal(t, acl.Allow, c.Policy.DecideAddr(acl.Target{Host: host("a.test"), Port: 81}, netip.MustParseAddr("192.0.2.1")).Verdict)
	assert.Equal(t, acl.Deny, c.Policy.DecideHost(acl.Target{Host: host("b.test"), Port: 81}).Verdict)
}
