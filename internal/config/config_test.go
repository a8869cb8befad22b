package config

import (
	"bytes"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// given is what a test loads from.
type given struct {
	args  []string
	env   []string
	files map[string]string
}

func (g given) load(t testing.TB) (*Proxy, error) {
	t.Helper()
	flags := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	settings.AddFlags(flags, ProxySettings())
	require.NoError(t, flags.Parse(g.args))
	return LoadProxy(settings.Input{Flags: flags, Environ: g.env, ReadFile: func(path string) ([]byte, error) {
		text, ok := g.files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}})
}

// file is a configuration file alone, with rules that allow everything.
func file(text string) given {
	return given{
		args:  []string{"--config=/etc/sluice.yaml"},
		env:   []string{"EGRESS_HTTP_PROXY_DESTINATION=*"},
		files: map[string]string{"/etc/sluice.yaml": text},
	}
}

func addrs(ss ...string) (all []netip.Addr) {
	for _, s := range ss {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	p, err := given{env: []string{"EGRESS_HTTP_PROXY_DESTINATION=*", "PATH=/bin", "SLUICE_GUARD="}}.load(t)
	require.NoError(t, err)
	require.NotNil(t, p.Policy)
	p.Policy, p.Written = nil, nil
	require.Equal(t, &Proxy{
		Common: Common{Admin: "127.0.0.1:9090", Guard: acl.GuardDefault, DNSTimeout: 5 * time.Second, DrainTimeout: 30 * time.Second,
			AccessLog: "-", Origin: "EGRESS_HTTP_PROXY_DESTINATION"},
		Listen:  []string{":8080"},
		Rules:   ruleText(acl.Text{Source: "EGRESS_HTTP_PROXY_DESTINATION", Text: "*"}),
		MaxHead: 65536, MaxFields: 256, MaxAnswerHead: 262144, MaxAnswerFields: 1000, MaxHandshakesPerClient: 100,
		HeadTimeout: 30 * time.Second, DirectoryWait: time.Second, DirectoryMaxAge: 5 * time.Minute, ConnectTimeout: 10 * time.Second,
		IdleTimeout: time.Hour, KeepAliveTimeout: 2 * time.Minute, HalfCloseTimeout: 30 * time.Second, MinRate: 500,
		AccessLogFormat: "json",
	}, p)
}

// TestEveryWay says everything once by flags, once by the environment and once in
// the file: the same comes out.
// hash is bcrypt's, of "U*U" (a vector of its authors).
const hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"

func TestEveryWay(t *testing.T) {
	t.Parallel()
	pem, err := os.ReadFile(filepath.Join("testdata", "root.pem"))
	require.NoError(t, err)
	files := map[string]string{
		"/etc/ca.pem": string(pem), "/etc/ca2.pem": strings.TrimSpace(string(pem)), "/etc/rules": "*.example.com\n#@ end\n", "/etc/more": "b.test\n#@ end", "/etc/shadow": "c.test\n#@ end", "/etc/users": "deploy:" + hash + "\n",
		"/etc/sluice.yaml": `# everything
listen: [":3128", "[::]:3129"]
admin: off
adminHost: [Sluice-Admin.egress.svc., sluice]
pprof: true
listenTLS: ":8443"
tlsCert: tls.pem
tlsKey: tls.key
clientCA: ca.pem
listenSOCKS: ":1080"
proxyProtocolFrom: [10.0.0.0/8, 192.0.2.1]
rulesFile: [rules, more]
shadowRulesFile: shadow
tunnelCheck: enforce
guard: strict
learn: true
onRevoke: keep
expired: keep
hideRules: true
requireEnd: true
logQuery: true
contact: ask net@example.com
authenticate: optional
directory: /run/d.sock
directoryWait: 2s
directoryMaxAge: 3m
usersFile: users
source: 192.0.2.10/24, 2001:db8::10
holder: /run/h.sock
resolver:
  - 192.0.2.53
  - "[2001:db8::53]:5353"
upstreamCA: [ca.pem, ca2.pem]
forwardedFor: true
maxHead: 16KiB
maxFields: 100
maxAnswerHead: 32KiB
maxAnswerFields: 200
maxConns: 5000
maxConnsPerClient: 50
maxHandshakesPerClient: 60
headTimeout: 1s
connectTimeout: 2s
dnsTimeout: 3s
idleTimeout: 0s
keepaliveTimeout: 4m
halfCloseTimeout: 5s
minRate: 100
shutdownDelay: 6s
drainTimeout: 0
accessLog: /var/log/access
accessLogFormat: squid
logLevel: warn
`,
	}
	texts := map[string][]string{
		"listen": {":3128", "[::]:3129"}, "admin": {"off"}, "admin-host": {"sluice-admin.egress.svc", "sluice"}, "pprof": {"true"}, "rules": {"/etc/rules", "/etc/more"},
		"listen-tls": {":8443"}, "tls-cert": {"/etc/tls.pem"}, "tls-key": {"/etc/tls.key"}, "client-ca": {"/etc/ca.pem"}, "listen-socks": {":1080"}, "proxy-protocol-from": {"10.0.0.0/8", "192.0.2.1"},
		"shadow-rules": {"/etc/shadow"}, "learn": {"true"}, "tunnel-check": {"enforce"}, "guard": {"strict"}, "on-revoke": {"keep"}, "expired": {"keep"}, "hide-rules": {"true"}, "require-end": {"true"}, "log-query": {"true"}, "contact": {"ask net@example.com"},
		"authenticate": {"optional"}, "directory": {"/run/d.sock"}, "directory-wait": {"2s"}, "directory-max-age": {"3m"}, "users-file": {"/etc/users"},
		"source": {"192.0.2.10/24", "2001:db8::10"}, "holder": {"/run/h.sock"}, "resolver": {"192.0.2.53", "[2001:db8::53]:5353"},
		"upstream-ca": {"/etc/ca.pem", "/etc/ca2.pem"}, "forwarded-for": {"true"}, "max-head": {"16384"},
		"max-fields": {"100"}, "max-answer-head": {"32768"}, "max-answer-fields": {"200"}, "max-conns": {"5000"}, "max-conns-per-client": {"50"}, "max-handshakes-per-client": {"60"},
		"head-timeout": {"1s"}, "connect-timeout": {"2s"}, "dns-timeout": {"3s"}, "idle-timeout": {"0"},
		"keepalive-timeout": {"240s"}, "half-close-timeout": {"5s"}, "min-rate": {"100"}, "shutdown-delay": {"6s"}, "drain-timeout": {"0s"}, "access-log": {"/var/log/access"},
		"access-log-format": {"squid"}, "log-level": {"WARN"},
	}
	files["/etc/tls.pem"], files["/etc/tls.key"] = inPEM(t, nettest.NewCA(t).Issue("127.0.0.1"))
	byFlag, byEnv := given{files: files}, given{files: files}
	for flag, ts := range texts {
		for _, text := range ts {
			byFlag.args = append(byFlag.args, "--"+flag+"="+text)
		}
		byEnv.env = append(byEnv.env, "SLUICE_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))+"="+strings.Join(ts, " \n,"))
	}
	want := &Proxy{
		Common: Common{
			Pprof: true, AdminHosts: []string{"sluice-admin.egress.svc", "sluice"}, Guard: acl.GuardStrict, KeepOpen: true, KeepExpired: true,
			Sources: addrs("192.0.2.10", "2001:db8::10"), Holder: "/run/h.sock",
			Resolvers: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("[2001:db8::53]:5353"),
			},
			DNSTimeout: 3 * time.Second, ShutdownDelay: 6 * time.Second, LogLevel: slog.LevelWarn, AccessLog: "/var/log/access", Origin: "/etc/rules, /etc/more",
			Watch: []string{"/etc/rules", "/etc/more", "/etc/shadow", "/etc/users", "/etc/tls.pem", "/etc/tls.key", "/etc/ca.pem", "/etc/ca2.pem"},
		},
		Listen: []string{":3128", "[::]:3129"}, ListenTLS: []string{":8443"}, ListenSOCKS: []string{":1080"},
		ProxyProtocolFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
		Rules:             ruleText(acl.Text{Source: "/etc/rules", Text: "*.example.com\n#@ end\n"}, acl.Text{Source: "/etc/more", Text: "b.test\n#@ end"}),
		ShadowRules:       ruleText(acl.Text{Source: "/etc/shadow", Text: "c.test\n#@ end"}),
		Learn:             true, HideRules: true, RequireEnd: true, LogQuery: true, Contact: "ask net@example.com", TunnelCheck: policy.CheckEnforce, Authenticate: policy.Optional, Directory: "/run/d.sock", DirectoryWait: 2 * time.Second, DirectoryMaxAge: 3 * time.Minute,
		UpstreamCA: bytes.TrimSpace(append(pem, pem...)), ForwardedFor: true,
		MaxHead: 16384, MaxFields: 100, MaxAnswerHead: 32768, MaxAnswerFields: 200, MaxConns: 5000, MaxConnsPerClient: 50, MaxHandshakesPerClient: 60,
		HeadTimeout: time.Second, ConnectTimeout: 2 * time.Second,
		KeepAliveTimeout: 4 * time.Minute, HalfCloseTimeout: 5 * time.Second, MinRate: 100, AccessLogFormat: "squid",
	}
	for name, g := range map[string]given{
		"flags": byFlag, "environment": byEnv,
		"file":             {args: []string{"--config", "/etc/sluice.yaml"}, files: files},
		"file by variable": {env: []string{"SLUICE_CONFIG=/etc/sluice.yaml"}, files: files},
	} {
		p, err := g.load(t)
		require.NoError(t, err, name)
		require.True(t, p.Users.Has("deploy"))
		require.NotNil(t, p.Keys.ClientCAs)
		require.Equal(t, 1, p.Shadow.Len())
		require.Equal(t, p.Policy.Len()+1, p.Learned.Len())
		require.Len(t, p.Warnings, 1, "learning is warned of, and names where it stands")
		p.Warnings = nil
		p.Policy, p.Shadow, p.Learned, p.Written, p.Users, p.Keys = nil, nil, nil, nil, nil, nil
		if strings.HasPrefix(name, "file") {
			require.Equal(t, "/etc/sluice.yaml", p.Watch[0])
			p.Watch = p.Watch[1:]
		}
		require.Equal(t, want, p, name)
	}
	// No setting is missing here.
	for _, s := range ProxySettings() {
		if s.Flag != "" && s.Flag != "config" {
			require.Contains(t, texts, s.Flag)
		}
		if s.Key != "" && s.Key != "rules" && s.Key != "shadowRules" && s.Key != tenantsKey && s.Key != inspectKey && s.Key != parentsKey {
			require.Contains(t, files["/etc/sluice.yaml"], "\n"+s.Key+":")
		}
	}
}

func TestWhoWins(t *testing.T) {
	t.Parallel()
	g := file("maxFields: 1\ndnsTimeout: 1s\nidleTimeout: 1s\nrules: \"!a.test\"\n")
	g.env = append(g.env, "SLUICE_MAX_FIELDS=2", "SLUICE_DNS_TIMEOUT=2s")
	g.args = append(g.args, "--max-fields=3", "--max-fields=4", "--rules=/rules")
	g.files["/rules"] = "b.test"
	p, err := g.load(t)
	require.NoError(t, err)
	require.Equal(t, 4, p.MaxFields)
	require.Equal(t, 2*time.Second, p.DNSTimeout)
	require.Equal(t, time.Second, p.IdleTimeout)
	require.Equal(t, ruleText(acl.Text{Source: "/rules", Text: "b.test"}), p.Rules)
	require.Equal(t, []string{"/etc/sluice.yaml", "/rules"}, p.Watch)

	g.args = g.args[:1]
	p, err = g.load(t)
	require.NoError(t, err)
	require.Equal(t, "*", p.Rules.Texts[0].Text)

	g.env = nil
	p, err = g.load(t)
	require.NoError(t, err)
	require.Equal(t, acl.Text{Source: "/etc/sluice.yaml", Text: "!a.test", Line: 4}, p.Rules.Texts[0])
}

// TestFilesAreNotLost: a second file of settings is refused: nobody would know what
// the first holds. Of other settings that take one value the last counts.
func TestFilesAreNotLost(t *testing.T) {
	t.Parallel()
	for _, all := range [][]settings.Setting{ProxySettings(), TCPSettings()} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		settings.AddFlags(flags, all)
		require.NoError(t, flags.Parse([]string{"--config=a", "--config=a", "--access-log=a", "--access-log=off"}))
		require.EqualError(t, flags.Parse([]string{"--config=b"}), `invalid argument "b" for "--config" flag: a was given already, and there can be one`)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	p, err := given{env: []string{
		"EGRESS_HTTP_PROXY_DESTINATION=10.0.0.1/8\n*",
		"SLUICE_EMPTY=", "SLUICE=1", "SLUICE_MODE=init", "SLUICE_DESTINATION=80 a.test", "EGRESS_SOURCES=192.0.2.1", "EGRESS_ROUTER_MODE=http-proxy", "EGRESS_TEAM=x",
		// What Kubernetes sets for Services named sluice, sluice-admin, sluice-rule and egress-source.
		"SLUICE_RULE_SERVICE_HOST=10.0.0.1", "SLUICE_RULE_PORT=tcp://10.0.0.1:8080", "EGRESS_SOURCE_SERVICE_HOST=10.0.0.1", "EGRESS_SOURCE_PORT=tcp://10.0.0.1:80",
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_SERVICE_PORT=8080", "SLUICE_SERVICE_PORT_HTTP_PROXY=8080",
		"SLUICE_PORT=tcp://10.0.0.1:8080", "SLUICE_PORT_8080_TCP=tcp://10.0.0.1:8080",
		"SLUICE_PORT_8080_TCP_PROTO=tcp", "SLUICE_PORT_8080_TCP_ADDR=10.0.0.1", "SLUICE_ADMIN_SERVICE_HOST=10.0.0.1",
	}}.load(t)
	require.NoError(t, err)
	lines := strings.Split(p.Warnings.Error(), "\n")
	require.Len(t, lines, 4, "%q", lines)
	require.Equal(t, "EGRESS_SOURCES: no such setting, ignored; did you mean EGRESS_SOURCE?", lines[0])
	require.Equal(t, "SLUICE_DESTINATION: no setting of this mode, ignored", lines[1])
	require.Equal(t, "SLUICE_MODE: no setting of this mode, ignored", lines[2])
	require.Contains(t, lines[3], "EGRESS_HTTP_PROXY_DESTINATION:1: ")
}

// TestInlineRulesCountTheFilesLines: a decision names the line that the reader
// of the file sees.
func TestInlineRulesCountTheFilesLines(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"block":        "# sluice\n\nrules: |\n\n  # bad:\n  a b\n  *\n",
		"chomped":      "# sluice\n\nrules: |-\n\n  # bad:\n  a b",
		"indented":     "# sluice\n\nrules: |2\n\n   # bad:\n   a b\n",
		"one line":     "# sluice\n\n\n\n\nrules: a b\n",
		"quoted":       "# sluice\n\n\n\n\nrules: \"a b\"\n",
		"other spaces": "# sluice\r\n\r\nrules: |\r\n\r\n  # bad:\r\n  a b\r\n",
	} {
		g := file(text)
		g.env = nil
		_, err := g.load(t)
		require.Error(t, err, name)
		require.Contains(t, err.Error(), "/etc/sluice.yaml:6: ", name)
		require.NotContains(t, err.Error(), "\n", name)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	flags := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	flags.Bool("check", false, "check the configuration and exit")
	settings.AddFlags(flags, ProxySettings())
	var titles []string
	all := ""
	for _, g := range settings.Usages(flags) {
		titles = append(titles, g.Title)
		all += g.Flags
	}
	require.Equal(t, []string{"Listening", "Policy", "Outbound", "Limits", "Time-outs", "Logs", "Other"}, titles)
	require.Contains(t, all, "--listen ADDR                accept clients at this address; may be given several times (default :8080)\n")
	require.Contains(t, all, "--hide-rules    ")
	require.Contains(t, all, "--check   check the configuration and exit\n")
	flags.VisitAll(func(f *pflag.Flag) { require.Contains(t, all, "--"+f.Name+" ") })
}

func rootPEM(t testing.TB) string {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join("testdata", "root.pem"))
	require.NoError(t, err)
	return string(pem)
}
