package main

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

// allSettings are those of the program.
var allSettings = (&configuration{hold: new(holdSettings)}).settings()

// given is what a test loads from, for the command hold or the others.
type given struct {
	args  []string
	env   []string
	files map[string]string
	hold  *holdSettings
}

func (g given) load(t testing.TB) (*configuration, error) {
	t.Helper()
	flags := pflag.NewFlagSet("netsetup", pflag.ContinueOnError)
	c := &configuration{hold: g.hold}
	settings.AddFlags(flags, c.settings())
	require.NoError(t, flags.Parse(g.args))
	return loadInto(c, settings.Input{Flags: flags, Environ: g.env, ReadFile: func(path string) ([]byte, error) {
		text, ok := g.files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}})
}

// env is an environment of the egress router with these variables changed.
func env(vars ...string) given {
	return given{env: append([]string{"EGRESS_SOURCE=192.0.2.10", "EGRESS_GATEWAY=192.0.2.1", "EGRESS_DESTINATION=203.0.113.3"}, vars...)}
}

// TestEveryWay says everything once by flags, once by the environment and once in
// the file: the same comes out.
func TestEveryWay(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"/etc/rules": "80 tcp 203.0.113.6\n203.0.113.3\n",
		"/etc/sluice.yaml": `# everything
mode: init
source: [192.0.2.10/24, "2001:db8::a"]
gateway: 192.0.2.1, 2001:db8::1
interface: net1
master: eth1
keepRoute: [10.96.0.0/12, "fd00:96::/112"]
destinationsFile: rules
probe: false
metricsFile: /run/sluice.prom
`,
		"/etc/inline.yaml": `mode: init
source: |
  192.0.2.10/24
  2001:db8::a
gateway:
  - 192.0.2.1@192.0.2.10
  - 2001:db8::1@2001:db8::a
interface: net1
master: eth1
keepRoute: |
  10.96.0.0/12
  fd00:96::/112
destinations: |
  # the web server
  80 tcp 203.0.113.6
  203.0.113.3
probe: false
metricsFile: /run/sluice.prom
`,
	}
	want := ""
	for _, c := range []struct {
		name string
		given
	}{
		{"flags", given{args: []string{"--mode=init", "--source=192.0.2.10/24", "--source=2001:db8::a", "--gateway=192.0.2.1 2001:db8::1",
			"--interface=net1", "--master=eth0", "--master=eth1", "--keep-route=10.96.0.0/12", "--keep-route=fd00:96::/112", "--destinations=/etc/rules", "--probe=false", "--metrics-file=/run/sluice.prom"}}},
		{"environment", given{env: []string{"SLUICE_MODE=init", "SLUICE_SOURCE=192.0.2.10/24,2001:db8::a", "SLUICE_GATEWAY=192.0.2.1\n2001:db8::1",
			"SLUICE_INTERFACE=net1", "SLUICE_MASTER=eth1", "SLUICE_KEEP_ROUTE=10.96.0.0/12 fd00:96::/112", "SLUICE_DESTINATIONS=/etc/rules", "SLUICE_PROBE=0", "SLUICE_METRICS_FILE=/run/sluice.prom"}}},
		{"egress router's", given{env: []string{"EGRESS_ROUTER_MODE=init", "EGRESS_SOURCE=192.0.2.10/24 2001:db8::a", "EGRESS_GATEWAY=192.0.2.1 2001:db8::1",
			"EGRESS_INTERFACE=net1", "EGRESS_MASTER=eth1", "SLUICE_KEEP_ROUTE=10.96.0.0/12,fd00:96::/112", "EGRESS_DESTINATION=80 tcp 203.0.113.6\n203.0.113.3", "SLUICE_PROBE=false", "SLUICE_METRICS_FILE=/run/sluice.prom"}}},
		{"file", given{args: []string{"--config=/etc/sluice.yaml"}}},
		{"file by variable", given{env: []string{"SLUICE_CONFIG=/etc/inline.yaml"}}},
		{"flags win", given{args: []string{"--config=/etc/inline.yaml", "--source=192.0.2.10/24 2001:db8::a", "--mode", "init"}, env: []string{"EGRESS_SOURCE=x", "EGRESS_INTERFACE=net1"}}},
	} {
		c.files = files
		got, err := c.load(t)
		require.NoError(t, err, c.name)
		require.Equal(t, netsetup.Init, got.Mode)
		require.True(t, got.SkipProbe)
		require.Equal(t, "/run/sluice.prom", got.MetricsFile)
		require.Equal(t, "eth1", got.Master)
		require.Equal(t, "[10.96.0.0/12 fd00:96::/112]", fmt.Sprint(got.KeepRoutes))
		text := netsetup.UnitTestRules(got.Config)
		require.Contains(t, text, `oifname "net1" snat to 2001:db8::a`)
		require.Contains(t, text, "dport 80 dnat to 203.0.113.6\n")
		if want == "" {
			want = text
		}
		require.Equal(t, want, text, c.name)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	got, err := env().load(t)
	require.NoError(t, err)
	require.Equal(t, netsetup.Legacy, got.Mode)
	require.False(t, got.SkipProbe)
	require.Empty(t, got.MetricsFile)

	got, err = given{env: []string{"EGRESS_SOURCE=192.0.2.10", "EGRESS_GATEWAY=192.0.2.1", "EGRESS_ROUTER_MODE=http-proxy", "EGRESS_ROUTER_DEBUG=1"}}.load(t)
	require.NoError(t, err)
	require.True(t, got.Debug)
	require.Empty(t, got.Nameservers)

	g := env("KUBERNETES_SERVICE_HOST=10.96.0.1")
	g.files = map[string]string{"/etc/resolv.conf": "nameserver 10.96.0.10\n"}
	got, err = g.load(t)
	require.NoError(t, err)
	require.Equal(t, "[10.96.0.10] 10.96.0.1", fmt.Sprint(got.Nameservers, got.Service))
	got, err = env("KUBERNETES_SERVICE_HOST=api.example.com").load(t)
	require.NoError(t, err)
	require.False(t, got.Service.IsValid())
}

// TestProblems has the situations of the upstream script's test, and ours.
func TestProblems(t *testing.T) {
	t.Parallel()
	file := func(text string) given {
		g := env()
		g.args, g.files = []string{"--config=/f"}, map[string]string{"/f": text}
		return g
	}
	for name, c := range map[string]struct {
		given
		want string
	}{
		"nothing": {given{}, "EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: name the address to send from, ADDR or ADDR/LEN\n" +
			"EGRESS_GATEWAY: EGRESS_GATEWAY unspecified or invalid: name the gateway of EGRESS_SOURCE\n" +
			"EGRESS_DESTINATION: EGRESS_DESTINATION unspecified: say where connections go, PORT PROTO IP or IP, one a line"},
		"source, lines":       {env("EGRESS_SOURCE=192.0.2.9\nIP"), `EGRESS_SOURCE:2: EGRESS_SOURCE unspecified or invalid: "IP" is not ADDR or ADDR/LEN`},
		"gateway":             {env("EGRESS_GATEWAY=gw"), `EGRESS_GATEWAY: EGRESS_GATEWAY unspecified or invalid: "gw" is not ADDR or ADDR@SOURCE`},
		"destination empty":   {env("EGRESS_DESTINATION="), "EGRESS_DESTINATION: EGRESS_DESTINATION unspecified: say where connections go, PORT PROTO IP or IP, one a line"},
		"destination":         {env("EGRESS_DESTINATION=invalid"), `EGRESS_DESTINATION: EGRESS_DESTINATION value 'invalid' is invalid: "invalid" is no IP address`},
		"destination, line":   {env("EGRESS_DESTINATION=203.0.113.3\n80 tcp 203.0.113.4"), "EGRESS_DESTINATION:2: EGRESS_DESTINATION fallback IP must be the last line"},
		"destination, family": {env("EGRESS_DESTINATION=2001:db8::3"), "EGRESS_DESTINATION: EGRESS_DESTINATION value '2001:db8::3' is invalid: there is no EGRESS_SOURCE of its family, IPv6, to send from"},
		"mode":                {env("EGRESS_ROUTER_MODE=redirect"), "EGRESS_ROUTER_MODE: Unrecognized EGRESS_ROUTER_MODE 'redirect': it is one of init, legacy, http-proxy, dns-proxy, unit-test"},
		"interface":           {env("EGRESS_INTERFACE=a/b"), `EGRESS_INTERFACE: EGRESS_INTERFACE invalid: "a/b" is no name of an interface: up to 15 letters and digits`},
		"master":              {env("EGRESS_MASTER=lo"), `EGRESS_MASTER: EGRESS_MASTER invalid: nothing can leave by "lo"`},
		"keep route":          {env("SLUICE_KEEP_ROUTE=10.96.0.0/12\n10.96"), `SLUICE_KEEP_ROUTE:2: SLUICE_KEEP_ROUTE invalid: "10.96" is not ADDR/LEN or ADDR`},
		"keep the link":       {env("SLUICE_KEEP_ROUTE=192.0.2.1"), "SLUICE_KEEP_ROUTE: SLUICE_KEEP_ROUTE invalid: 192.0.2.1/32 is on the link of EGRESS_SOURCE 192.0.2.10/32 with its gateway 192.0.2.1; it cannot leave by the cluster as well"},
		"misspelt":            {env("SLUICE_PROB=x", "SLUICE_KEEP_ROUTES=x"), "SLUICE_KEEP_ROUTES: no such setting; did you mean SLUICE_KEEP_ROUTE?\nSLUICE_PROB: no such setting; did you mean SLUICE_PROBE?"},
		"misspelt key":        {file("mode: init\nmetricFile: x\n"), `/f:2: unknown key "metricFile"; did you mean metricsFile?`},
		"probe":               {env("SLUICE_PROBE=maybe"), `SLUICE_PROBE: "maybe" is neither true nor false`},
		"twice":               {env("SLUICE_SOURCE=192.0.2.10"), "SLUICE_SOURCE: EGRESS_SOURCE is set as well; keep one of them"},
		"no such file":        {given{args: []string{"--destinations=/none"}, env: env().env[:2]}, "--destinations: open /none: file does not exist"},
		"line of a file":      {given{args: []string{"--destinations=/d"}, env: env().env[:2], files: map[string]string{"/d": "# x\n\ny\n"}}, `/d:3: EGRESS_DESTINATION value 'y' is invalid: "y" is no IP address`},
		"no config file":      {given{args: []string{"--config=/none"}}, "--config: open /none: file does not exist"},
		"not YAML":            {file("# x\nmode: b: c\n"), "/f:2: not YAML: mapping values are not allowed in this context"},
		"no keys":             {file("- a\n"), "/f:1: not a list of keys and values"},
		"two documents":       {file("mode: init\n---\nmode: init\n"), "/f:2: a second document; one file holds one configuration"},
		"unknown key":         {file("mode: init\nlisten: :1\n"), `/f:2: unknown key "listen"`},
		"key twice":           {file("mode: init\nmode: init\n"), `/f:2: "mode" stands in line 1 already`},
		"no value":            {file("mode:\n"), `/f:1: "mode" has no value; leave the key out to get the default`},
		"map":                 {file("mode:\n  a: b\n"), `/f:2: "mode" wants one value`},
		"map for list":        {file("source:\n  a: b\n"), `/f:2: "source" wants a value or a list of values`},
		"list for one":        {file("mode: [init]\n"), `/f:1: "mode" wants one value`},
		"two texts":           {given{args: []string{"--config=/f"}, env: env().env[:2], files: map[string]string{"/f": "destinations: 203.0.113.3\ndestinationsFile: x\n"}}, `/f:2: "destinations" and "destinationsFile" are both given; keep one of them`},
		"block": {given{args: []string{"--config=/f"}, files: map[string]string{"/f": "source:\n  - 192.0.2.10\n  - x\ngateway: 192.0.2.1\ndestinations: |\n  80 tcp 203.0.113.3\n\n  81 tpc 203.0.113.3\n"}},
			"/f:3: EGRESS_SOURCE unspecified or invalid: \"x\" is not ADDR or ADDR/LEN\n" +
				"/f:8: EGRESS_DESTINATION value '81 tpc 203.0.113.3' is invalid: PROTO is tcp, udp or sctp"},
		"gateway of a wrong source": {env("EGRESS_SOURCE=x", "EGRESS_GATEWAY=192.0.2.1@x", "EGRESS_INTERFACE=net1@x"), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "x" is not ADDR or ADDR/LEN`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.load(t)
			require.EqualError(t, err, c.want)
			require.Nil(t, got)
		})
	}
}

// TestVariablesOfOthers: the programs of the image take each other's variables for
// no mistake, and what Kubernetes sets neither.
func TestVariablesOfOthers(t *testing.T) {
	t.Parallel()
	theirs, ours := append(config.ProxySettings(), config.TCPSettings()...), variables(allSettings)
	known := append(variables(theirs), "EGRESS_DNS_PROXY_DEBUG", "EGRESS_ROUTER_DEBUG",
		// Of sluice-kube, whose tables no other program may link.
		"SLUICE_AUDIENCE", "SLUICE_KUBECONFIG", "SLUICE_NAMESPACES", "SLUICE_SOCKET",
		"SLUICE_ENDPOINT", "SLUICE_HOLD_API_GRACE", "SLUICE_HOLD_GATEWAY_MISSES", "SLUICE_HOLD_HELD", "SLUICE_HOLD_LEASE", "SLUICE_HOLD_ON_API_LOSS",
		"SLUICE_HOLD_PENDING", "SLUICE_HOLD_PROXY_GONE", "SLUICE_HOLD_RENEW", "SLUICE_HOLD_RETRY", "SLUICE_HOLD_SUCCESSOR_WAIT", "SLUICE_LEASE", "SLUICE_NETSETUP", "SLUICE_SERVICE")
	require.ElementsMatch(t, slices.Compact(slices.Sorted(slices.Values(append(known, ours...)))), settings.Variables())

	var vars []string
	for _, name := range known {
		if !slices.Contains(ours, name) {
			vars = append(vars, name+"=x")
		}
	}
	c, err := env(append(vars, "SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_PORT=tcp://10.0.0.1:8080", "SLUICE_PORT_8080_TCP=x", "SLUICE_MODE_SERVICE_PORT=80")...).load(t)
	require.NoError(t, err)
	require.Contains(t, c.Warnings.Error(), "SLUICE_GUARD: no setting of this mode, ignored\n")

	vars = nil
	for _, name := range ours {
		if name != "SLUICE_CONFIG" && name != "SLUICE_SOURCE" && name != "EGRESS_SOURCE" {
			vars = append(vars, name+"=x")
		}
	}
	_, err = config.LoadProxy(settings.Input{Environ: append(vars, "EGRESS_HTTP_PROXY_DESTINATION=*")})
	require.NoError(t, err)
}

// variables are those that the settings are read from.
func variables(all []settings.Setting) (names []string) {
	for _, s := range all {
		for _, name := range []string{s.Env, s.Egress} {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// TestSharedSettings: what both programs read is called alike in both, and each setting
// says what puts it in force.
func TestSharedSettings(t *testing.T) {
	t.Parallel()
	for _, own := range allSettings {
		require.NotZero(t, own.Change, "is --%s %s put in force by a reload, or by a restart?", own.Flag, own.Key)
		for _, s := range config.ProxySettings() {
			if s.Flag == own.Flag && s.Flag != "" {
				require.Equal(t, strings.Join([]string{s.Env, s.Egress, s.Key}, " "), strings.Join([]string{own.Env, own.Egress, own.Key}, " "))
			}
		}
	}
}

// TestOneSource: whatever EGRESS_SOURCE says, the commands that connect from it take what
// the set-up takes, and read the same addresses.
func TestOneSource(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // "": neither takes it
		"192.0.2.10": "192.0.2.10", "192.0.2.10/24, 2001:db8::a/64": "192.0.2.10 2001:db8::a", "192.0.2.10\n192.0.2.10": "192.0.2.10",
		"::ffff:192.0.2.10": "", "192.0.2.10/33": "", "egress": "", "0.0.0.0": "", "ff02::1": "", "fe80::1%eth0": "", "192.0.2.10/24 x": "",
	} {
		c, err := given{env: []string{"EGRESS_ROUTER_MODE=http-proxy", "EGRESS_GATEWAY=192.0.2.1 2001:db8::1", "EGRESS_SOURCE=" + text}}.load(t)
		p, errProxy := config.LoadProxy(settings.Input{Environ: []string{"EGRESS_HTTP_PROXY_DESTINATION=*", "EGRESS_SOURCE=" + text}})
		if want == "" {
			require.ErrorContains(t, err, "EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: ")
			require.ErrorContains(t, errProxy, "EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: ")
			continue
		}
		require.NoError(t, errProxy, text)
		var got []string
		for _, a := range p.Sources {
			got = append(got, a.String())
		}
		require.Equal(t, want, strings.Join(got, " "))
		if !strings.Contains(want, ":") {
			require.ErrorContains(t, err, "there is no EGRESS_SOURCE of its family") // of the second gateway
			continue
		}
		require.NoError(t, err, text)
		for i, s := range c.Sources {
			require.Equal(t, p.Sources[i], s.Addr())
		}
	}
}

// TestHoldSettings: a pool names sources, or groups those that are named; each way of
// saying it comes out the same.
func TestHoldSettings(t *testing.T) {
	t.Parallel()
	const mode, gateways = "EGRESS_ROUTER_MODE=http-proxy", "EGRESS_GATEWAY=192.0.2.1 2001:db8::1"
	want := "[[192.0.2.10 2001:db8::a] [192.0.2.11]]"
	for name, g := range map[string]given{
		"variable": {env: []string{mode, gateways, "EGRESS_POOL=192.0.2.10/24,2001:db8::a 192.0.2.11/24", "SLUICE_HOLD_SOCKET=/s", "SLUICE_HOLD_REPLY_FROM=192.0.2.7 2001:db8::7"}},
		"lines":    {env: []string{mode, gateways, "SLUICE_POOL=192.0.2.10/24,2001:db8::a\n192.0.2.11/24\n", "SLUICE_HOLD_SOCKET=/s", "SLUICE_HOLD_REPLY_FROM=192.0.2.7,2001:db8::7"}},
		"named":    {env: []string{mode, gateways, "EGRESS_POOL=192.0.2.10,2001:db8::a 192.0.2.11", "EGRESS_SOURCE=192.0.2.10/24 2001:db8::a 192.0.2.11/24"}, args: []string{"--hold-socket=/s", "--hold-reply-from=192.0.2.7", "--hold-reply-from=2001:db8::7"}},
		"file":     {env: []string{mode, gateways}, args: []string{"--config=/f"}, files: map[string]string{"/f": "pool: ['192.0.2.10/24,2001:db8::a', 192.0.2.11/24]\nholdSocket: /s\nholdReplyFrom: [192.0.2.7, '2001:db8::7']\n"}},
	} {
		g.hold = new(holdSettings)
		c, err := g.load(t)
		require.NoError(t, err, name)
		require.Equal(t, want, fmt.Sprint(c.hold.Groups), name)
		require.Equal(t, "/s [192.0.2.7 2001:db8::7] false", fmt.Sprint(c.hold.Socket, " ", c.hold.ReplyFrom, " ", c.hold.SkipReply), name)
		var sources []string
		for _, s := range c.Sources {
			sources = append(sources, s.Prefix.String()+" by "+s.Gateway.String())
		}
		require.Equal(t, "192.0.2.10/24 by 192.0.2.1, 2001:db8::a/128 by 2001:db8::1, 192.0.2.11/24 by 192.0.2.1", strings.Join(sources, ", "), name)
	}
	c, err := given{hold: new(holdSettings), env: append(env(mode).env, "SLUICE_HOLD_REPLY_FROM=off")}.load(t)
	require.NoError(t, err)
	require.Empty(t, c.hold.Groups)
	require.True(t, c.hold.SkipReply)
	require.Equal(t, "/run/sluice/hold.sock", c.hold.Socket)

	for text, want := range map[string]string{
		"EGRESS_POOL=192.0.2.10 192.0.2.11":          "EGRESS_POOL: EGRESS_POOL invalid: 192.0.2.11 is no EGRESS_SOURCE",
		"EGRESS_POOL=192.0.2.10 192.0.2.10":          "EGRESS_POOL: EGRESS_POOL invalid: 192.0.2.10 is there twice",
		"EGRESS_POOL=192.0.2.10\nx":                  `EGRESS_POOL:2: EGRESS_POOL invalid: "x" is not ADDR or ADDR/LEN; addresses of a group are separated by commas, groups by white space`,
		"EGRESS_POOL=192.0.2.10,":                    `EGRESS_POOL: EGRESS_POOL invalid: "" is not ADDR or ADDR/LEN; addresses of a group are separated by commas, groups by white space`,
		"SLUICE_HOLD_SOCKET=s":                       `SLUICE_HOLD_SOCKET: "s" cannot be a socket: write an absolute path of at most 107 bytes`,
		"SLUICE_HOLD_REPLY_FROM=x":                   `SLUICE_HOLD_REPLY_FROM: "x" is no address, nor off alone`,
		"SLUICE_HOLD_REPLY_FROM=off 192.0.2.7":       `SLUICE_HOLD_REPLY_FROM: "off" is no address, nor off alone`,
		"SLUICE_HOLD_REPLY_FROM=192.0.2.7 192.0.2.8": "SLUICE_HOLD_REPLY_FROM: 192.0.2.8 is the second of its family; name one",
	} {
		_, err := given{hold: new(holdSettings), env: append(env(mode).env, text)}.load(t)
		require.EqualError(t, err, want)
	}
	_, err = given{hold: new(holdSettings), env: []string{mode, "EGRESS_GATEWAY=192.0.2.1", "EGRESS_SOURCE=192.0.2.10 192.0.2.11", "EGRESS_POOL=192.0.2.10"}}.load(t)
	require.EqualError(t, err, "EGRESS_POOL: EGRESS_POOL invalid: EGRESS_SOURCE 192.0.2.11 is in no group")
	// The other commands leave it alone.
	c, err = env(mode, "EGRESS_POOL=x", "SLUICE_HOLD_SOCKET=x").load(t)
	require.NoError(t, err)
	require.Contains(t, c.Warnings.Error(), "SLUICE_HOLD_SOCKET: no setting of this mode, ignored")
}
