package config

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/settings"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	const cut = `the rules do not end in the line "#@ end", which requireEnd asks for: they may be cut off; add the line, or get them whole`
	const none = `EGRESS_HTTP_PROXY_DESTINATION: No EGRESS_HTTP_PROXY_DESTINATION specified: set it to the rules, ` +
		`one a line, or name a file of rules with --rules; to allow everything, write "*"`
	env := func(vars ...string) given {
		return given{env: append(vars, "EGRESS_HTTP_PROXY_DESTINATION=*")}
	}
	for name, c := range map[string]struct {
		given
		want string
	}{
		"no rules":         {given{}, none},
		"empty rules":      {given{env: []string{"EGRESS_HTTP_PROXY_DESTINATION="}}, none},
		"file, no rules":   {given{args: []string{"--config=/f"}, files: map[string]string{"/f": "admin: off\n"}}, none},
		"no list of rules": {given{args: []string{"--config=/f"}, files: map[string]string{"/f": "rulesFile: []\n"}}, none},
		"no config file":   {given{args: []string{"--config=/none"}}, "--config: open /none: file does not exist"},
		"no rules file":    {given{env: []string{"SLUICE_RULES=/none"}}, "SLUICE_RULES: open /none: file does not exist"},
		"no end":           {env("SLUICE_REQUIRE_END=true"), `EGRESS_HTTP_PROXY_DESTINATION: ` + cut},
		"no end of a tenant's": {given{args: []string{"--config=/f"}, files: map[string]string{"/f": "requireEnd: true\nrulesFile: a\ntenants:\n- {name: t, clients: 10.0.0.1, rulesFile: b}\n- {name: u, clients: 10.0.0.2, rulesFile: b}\n", "/a": "a.test\n#@ end\n", "/b": "b.test\n"}},
			`/b: ` + cut},
		"no end of one file": {given{args: []string{"--require-end", "--rules=/a", "--rules=/b", "--shadow-rules=/c"}, files: map[string]string{"/a": "a.test\n#@ end\n", "/b": "b.test\n", "/c": "c.test\n"}},
			`/b: ` + cut + "\n" + `/c: ` + cut},
		"rules twice":     {env("SLUICE_RULES=/f"), "SLUICE_RULES: EGRESS_HTTP_PROXY_DESTINATION is set as well; keep one of them"},
		"source twice":    {env("SLUICE_SOURCE=192.0.2.1", "EGRESS_SOURCE=192.0.2.1"), "SLUICE_SOURCE: EGRESS_SOURCE is set as well; keep one of them"},
		"rules two ways":  {given{args: []string{"--config=/f"}, files: map[string]string{"/f": "rules: '*'\nrulesFile: x\n"}}, `/f:2: "rulesFile" and "rules" are both given; keep one of them`},
		"source no addr":  {env("EGRESS_SOURCE=egress"), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "egress" is not ADDR or ADDR/LEN`},
		"source length":   {env("EGRESS_SOURCE=192.0.2.1/33"), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "192.0.2.1/33" is not ADDR or ADDR/LEN`},
		"source blank":    {env("EGRESS_SOURCE= "), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "" is not ADDR or ADDR/LEN`},
		"source any":      {env("EGRESS_SOURCE=0.0.0.0"), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: nothing can be sent from "0.0.0.0"`},
		"source group":    {env("EGRESS_SOURCE=ff02::1"), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: nothing can be sent from "ff02::1"`},
		"source zone":     {env("EGRESS_SOURCE=fe80::1%eth0"), `EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "fe80::1%eth0" has a zone`},
		"source, line":    {env("EGRESS_SOURCE=192.0.2.1\n10.0.0.300\n"), `EGRESS_SOURCE:2: EGRESS_SOURCE unspecified or invalid: "10.0.0.300" is not ADDR or ADDR/LEN`},
		"listen name":     {env("SLUICE_LISTEN=localhost:80"), `SLUICE_LISTEN: "localhost:80" is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name`},
		"listen port":     {env("SLUICE_LISTEN=:65536"), `SLUICE_LISTEN: ":65536" is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name`},
		"admin = listen":  {env("SLUICE_ADMIN=:8080"), "SLUICE_ADMIN: :8080 is where the proxy listens already"},
		"listen = admin":  {env("SLUICE_LISTEN=127.0.0.1:9090"), "--admin: 127.0.0.1:9090 is where the proxy listens already"},
		"resolver name":   {env("SLUICE_RESOLVER=dns.test"), `SLUICE_RESOLVER: "dns.test" is no DNS server; write ADDR or ADDR:PORT`},
		"resolver port 0": {env("SLUICE_RESOLVER=192.0.2.1:0"), `SLUICE_RESOLVER: "192.0.2.1:0" is no DNS server; write ADDR or ADDR:PORT`},
		"switch":          {env("SLUICE_PPROF=yes"), `SLUICE_PPROF: "yes" is neither true nor false`},
		"duration":        {env("SLUICE_DNS_TIMEOUT=5"), `SLUICE_DNS_TIMEOUT: "5" is no duration; write 30s, 5m or 1h30m`},
		"duration range":  {env("SLUICE_DNS_TIMEOUT=0s"), "SLUICE_DNS_TIMEOUT: 0s is out of range: from 1ms to 1m"},
		"negative":        {env("SLUICE_IDLE_TIMEOUT=-1s"), "SLUICE_IDLE_TIMEOUT: -1s is out of range: from 0s to 720h"},
		"size":            {env("SLUICE_MAX_HEAD=64kb"), `SLUICE_MAX_HEAD: "64kb" is no size; write bytes, or a number with KiB or MiB`},
		"size range":      {env("SLUICE_MAX_HEAD=4GiB"), "SLUICE_MAX_HEAD: 4GiB is out of range: from 1024 to 1048576 bytes"},
		"number":          {env("SLUICE_MAX_CONNS=many"), `SLUICE_MAX_CONNS: "many" is no whole number`},
		"number range":    {env("SLUICE_MAX_FIELDS=0"), "SLUICE_MAX_FIELDS: 0 is out of range: from 1 to 10000"},
		"format":          {env("SLUICE_ACCESS_LOG_FORMAT=xml"), `SLUICE_ACCESS_LOG_FORMAT: "xml" is none of json, squid, combined`},
		"level":           {env("SLUICE_LOG_LEVEL=loud"), `SLUICE_LOG_LEVEL: "loud" is none of debug, info, warn, error`},
		"contact":         {env("SLUICE_CONTACT=a\nb"), `SLUICE_CONTACT: "a\nb" is not one line of printable text`},
		"access log":      {given{args: []string{"--access-log="}, env: env().env}, `--access-log: "" is no file name`},
		"CA": {
			given{args: []string{"--upstream-ca=/f"}, env: env().env, files: map[string]string{"/f": "x"}},
			"--upstream-ca: /f holds no certificate in PEM form",
		},
		"rules, * before others": {
			given{args: []string{"--rules=/a", "--rules=/b"}, files: map[string]string{"/a": "ok.test\n*\n", "/b": "# more\nc.test\n10.0.0.300"}},
			"/a:2: Wildcard must be last rule, if present: line 2 of /b follows '*'; move the `*` to the end\n" +
				"/b:3: Bad destination '10.0.0.300': not an IPv4 address; write four numbers from 0 to 255 without leading zeros",
		},
		"rules named twice": {
			given{env: []string{"SLUICE_RULES=/a,/a"}, files: map[string]string{"/a": "ok.test"}},
			"SLUICE_RULES: /a is named twice; each file of rules is read once, in the order given",
		},
		"one of the rules missing": {
			given{args: []string{"--rules=/a", "--rules=/b"}, files: map[string]string{"/a": "ok.test"}},
			"--rules: open /b: file does not exist",
		},
		"variable":        {env("SLUICE_RULE=/r"), "SLUICE_RULE: no such setting; did you mean SLUICE_RULES?"},
		"far variable":    {env("SLUICE_XYZZY=1"), "SLUICE_XYZZY: no such setting; unset it, the prefix SLUICE_ is for settings"},
		"other's":         {env("SLUICE_KEEP_ROUTES=10.0.0.0/8"), "SLUICE_KEEP_ROUTES: no such setting; did you mean SLUICE_KEEP_ROUTE?"},
		"unknown key":     {file("admin: off\nlistn: x\n"), `/etc/sluice.yaml:2: unknown key "listn"; did you mean listen?`},
		"far key":         {file("xyzzy: x\n"), `/etc/sluice.yaml:1: unknown key "xyzzy"`},
		"key of a list":   {file("[a]: x\n"), `/etc/sluice.yaml:1: unknown key ""`},
		"key twice":       {file("admin: off\npprof: true\nadmin: off\n"), `/etc/sluice.yaml:3: "admin" stands in line 1 already`},
		"no value":        {file("admin:\n"), `/etc/sluice.yaml:1: "admin" has no value; leave the key out to get the default`},
		"list for one":    {file("admin: [off]\n"), `/etc/sluice.yaml:1: "admin" wants one value`},
		"list of rules":   {given{args: []string{"--config=/f"}, files: map[string]string{"/f": "admin: off\nrules:\n- \"!a.test\"\n- b.test\n"}}, "/f:3: \"rules\" wants a text, not a list: write \"rules: |\" and below it one a line, indented, without dashes"},
		"map for list":    {file("listen:\n  a: b\n"), `/etc/sluice.yaml:2: "listen" wants a value or a list of values`},
		"list in list":    {file("listen:\n  - [a]\n"), `/etc/sluice.yaml:2: "listen" wants a value or a list of values`},
		"item":            {file("listen:\n  - :1\n  - x\n"), `/etc/sluice.yaml:3: "x" is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name`},
		"line of a block": {file("source: |\n  192.0.2.1\n  x\n"), `/etc/sluice.yaml:3: EGRESS_SOURCE unspecified or invalid: "x" is not ADDR or ADDR/LEN`},
		"alias":           {file("listen: &a\n  - :1\nresolver: *a\n"), `/etc/sluice.yaml:2: ":1" is no DNS server; write ADDR or ADDR:PORT`},
		"alias of itself": {file("listen: &a [*a]\n"), `/etc/sluice.yaml:1: "listen" wants a value or a list of values`},
		"no list of keys": {file("- a\n"), "/etc/sluice.yaml:1: not a list of keys and values"},
		"no YAML":         {file("admin: off\n\tx: y\n"), "/etc/sluice.yaml:2: not YAML: found a tab character that violates indentation"},
		"two documents":   {file("admin: off\n---\npprof: true\n"), "/etc/sluice.yaml:2: a second document; one file holds one configuration"},
		"file unreadable, rules elsewhere unknown": {
			given{args: []string{"--config=/f"}, files: map[string]string{"/f": "- x"}},
			"/f:1: not a list of keys and values",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := c.load(t)
			require.EqualError(t, err, c.want)
			require.Nil(t, p)
		})
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	t.Parallel()
	p, err := given{
		args: []string{"--listen=x", "--listen=:1", "--listen=y", "--config=/etc/sluice.yaml", "--max-head=1"},
		env:  []string{"EGRESS_SOURCE=192.0.2.1 nowhere", "SLUICE_LOG_LEVEL=loud"},
		files: map[string]string{"/etc/sluice.yaml": "admni: off\n" +
			"admin: nowhere\n" +
			"listen: z\n" + // a flag wins, so nobody reads it
			"guard: lax\n" +
			"rules: |\n" +
			"  *.example.com\n" +
			"  10.0.0.300\n" +
			"  *\n" +
			"  late.example.com\n"},
	}.load(t)
	require.Nil(t, p)
	var ps settings.Problems
	require.ErrorAs(t, err, &ps)
	var at []string
	for _, p := range ps {
		at = append(at, settings.Problem{Source: p.Source, Line: p.Line}.Error())
		require.NotEmpty(t, p.Msg)
	}
	require.Equal(t, []string{
		"/etc/sluice.yaml:1: ", "--listen: ", "--listen: ", "/etc/sluice.yaml:2: ", "/etc/sluice.yaml:4: ",
		"EGRESS_SOURCE: ", "--max-head: ", "SLUICE_LOG_LEVEL: ", "/etc/sluice.yaml:7: ", "/etc/sluice.yaml:8: ",
	}, at, "%v", err)
}

func TestDurationsAreShort(t *testing.T) {
	t.Parallel()
	_, err := settings.Duration(0, 0)("1h")
	require.EqualError(t, err, "1h is out of range: from 0s to 0s")
}
