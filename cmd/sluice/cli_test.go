package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// sluice runs the program and returns its status and what it printed.
func sluice(t *testing.T, environ []string, stdin string, args ...string) (status int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(t.Context(), args, environ, streams{in: strings.NewReader(stdin), out: &o, err: &e})
	return status, o.String(), e.String()
}

// write puts a file into a folder of the test's own and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// The example of acl.md.
const exampleRules = "!*.example.com\n!192.168.1.0/24\n192.168.2.1\n*\n"

func TestACLCheck(t *testing.T) {
	tests := []struct {
		status  int
		err     string
		environ []string
		stdin   string
		args    []string
	}{
		{0, "", nil, exampleRules, []string{"-"}},
		{0, "", nil, "", []string{"-"}}, // no rule at all is legal, and denies everything
		{0, "", []string{"EGRESS_HTTP_PROXY_DESTINATION=*"}, "", nil},
		{2, "No EGRESS_HTTP_PROXY_DESTINATION specified: set it, or name a file of rules\n", nil, "", nil},
		{2, "No EGRESS_HTTP_PROXY_DESTINATION specified: set it, or name a file of rules\n", []string{"EGRESS_HTTP_PROXY_DESTINATION="}, "", nil},
		{2, "read rules: open /nonexistent/rules: no such file or directory\n", nil, "", []string{"/nonexistent/rules"}},
	}
	for _, tt := range tests {
		status, out, err := sluice(t, tt.environ, tt.stdin, append([]string{"acl", "check"}, tt.args...)...)
		assert.Equal(t, tt.status, status)
		assert.Equal(t, tt.err, err)
		assert.Empty(t, out)
	}
	// One line a problem, all of them, each with its place.
	status, _, err := sluice(t, nil, "*\n10.0.0.300\nok.test\n!*\n", "acl", "check", "-")
	assert.Equal(t, 2, status)
	lines := strings.Split(strings.TrimSpace(err), "\n")
	require.Len(t, lines, 3, err)
	assert.Contains(t, err, "-:1: Wildcard must be last rule, if present")
	assert.Contains(t, err, "-:2: Bad destination '10.0.0.300': ")
	assert.Contains(t, err, "-:4: Bad destination '!*': ")
	// Warnings leave the status 0.
	status, _, err = sluice(t, nil, "10.0.0.1/8\n", "acl", "check", "-")
	assert.Equal(t, 0, status)
	assert.Contains(t, err, "-:1: ")
	assert.Contains(t, err, "10.0.0.0/8")
	assert.Contains(t, err, "(warning)\n")
}

func TestACLTest(t *testing.T) {
	rules := write(t, "rules", exampleRules)
	tests := []struct {
		status int
		want   string
		args   []string
	}{
		{1, "deny\twww.example.com:443\tline 1 !*.example.com\n", []string{"www.example.com"}},
		{1, "deny\texample.com:80\tline 1 !*.example.com\n", []string{"EXAMPLE.com.:80"}},
		{0, "allow\t192.168.2.1:8080\tline 3 192.168.2.1\n", []string{"192.168.2.1:8080"}},
		{1, "deny\t192.168.1.9:80\tline 2 !192.168.1.0/24\n", []string{"[::ffff:192.168.1.9]:80"}},
		{1, "deny\t169.254.169.254:80\tguard link-local\n", []string{"169.254.169.254:80"}},
		{0, "allow\t169.254.169.254:80\tline 4 *\n", []string{"--guard", "off", "169.254.169.254:80"}},
		{1, "deny\t10.0.0.1:80\tguard special-purpose\n", []string{"--guard", "strict", "http://10.0.0.1/x"}},
		{1, "depends\tother.test:443\tline 4 *\n", []string{"other.test"}},
		{1, "depends\tother.test:8443\tline 4 *\n", []string{"https://other.test:8443/x"}},
		{0, "allow\t[2001:db8::1]:443\tline 4 *\n", []string{"2001:db8::1"}},
		{0, "allow\tdual.test:80\tline 4 *\t192.168.1.7 deny (line 2 !192.168.1.0/24), 203.0.113.5 allow (line 4 *)\n", []string{"dual.test:80=192.168.1.7,203.0.113.5"}},
		{1, "deny\tintranet.test:80\tline 2 !192.168.1.0/24\t192.168.1.7 deny (line 2 !192.168.1.0/24)\n", []string{"intranet.test:80=192.168.1.7"}},
		{1, `{"target":"dual.test:443","verdict":"deny","reason":"line 2 !192.168.1.0/24","line":2,"addresses":[{"address":"192.168.1.7","verdict":"deny","reason":"line 2 !192.168.1.0/24","line":2}]}` + "\n", []string{"--json", "dual.test=192.168.1.7"}},
		{0, `{"target":"192.168.2.1:443","verdict":"allow","reason":"line 3 192.168.2.1","line":3}` + "\n", []string{"--json", "192.168.2.1"}},
		{1, "allow\t192.168.2.1:443\tline 3 192.168.2.1\ndeny\ta.example.com:443\tline 1 !*.example.com\n", []string{"192.168.2.1", "a.example.com"}},
	}
	for _, tt := range tests {
		status, out, err := sluice(t, nil, "", append([]string{"acl", "test", "--rules", rules}, tt.args...)...)
		assert.Equal(t, tt.want, out, tt.args)
		assert.Equal(t, tt.status, status, tt.args)
		assert.Empty(t, err, tt.args)
	}
}

// Several files are one list: each line keeps its file, in problems and decisions,
// and what holds for one text holds for them together.
func TestRulesOfSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(a, []byte("!a.test\n*.b.test"), 0o600))
	require.NoError(t, os.WriteFile(b, []byte("# b\n*.a.test\n*\n"), 0o600))
	status, out, err := sluice(t, nil, "", "acl", "check", a, b)
	assert.Equal(t, "0", fmt.Sprint(status, out))
	assert.Equal(t, a+": the text ends without a newline: it may be cut off; end it with the line #@ end (warning)\n", err)
	status, _, err = sluice(t, nil, "", "acl", "check", b, a)
	assert.Equal(t, 2, status)
	assert.Equal(t, b+":3: Wildcard must be last rule, if present: line 1 of "+a+" follows '*'; move the `*` to the end\n", err)
	status, _, err = sluice(t, nil, "", "acl", "check", a, a)
	assert.Equal(t, 2, status)
	assert.Equal(t, "read rules: "+a+" is named twice; each file of rules is read once, in the order given\n", err)

	status, out, err = sluice(t, nil, "!*.a.test\n", "acl", "test", "--rules", a, "--rules", "-", "--rules", b, "a.test", "x.a.test", "c.test:80=203.0.113.5")
	assert.Equal(t, 1, status, err)
	assert.Equal(t, "deny\ta.test:443\tline 1 of "+a+" !a.test\ndeny\tx.a.test:443\tline 1 of - !*.a.test\n"+
		"allow\tc.test:80\tline 3 of "+b+" *\t203.0.113.5 allow (line 3 of "+b+" *)\n", out)
	_, out, _ = sluice(t, nil, "", "acl", "test", "--json", "--rules", a, "--rules", b, "a.test")
	assert.Equal(t, `{"target":"a.test:443","verdict":"deny","reason":"line 1 of `+a+` !a.test","file":"`+a+`","line":1}`+"\n", out)

	status, _, err = sluice(t, nil, "", "proxy", "--check", "--rules", b, "--rules", a)
	assert.Equal(t, 2, status)
	assert.Equal(t, b+":3: Wildcard must be last rule, if present: line 1 of "+a+" follows '*'; move the `*` to the end\n", err)
	status, _, err = sluice(t, []string{"SLUICE_RULES=" + a + "," + b}, "", "proxy", "--check")
	assert.Equal(t, 0, status, err)
}

func TestACLTestProblems(t *testing.T) {
	rules := write(t, "rules", exampleRules)
	bad := write(t, "bad", "10.0.0.300\n")
	tests := []struct {
		err  string
		args []string
	}{
		{"Bad destination '10.0.0.300'", []string{"--rules", bad, "a.test"}},
		{`target "0x7f.1:80": `, []string{"--rules", rules, "0x7f.1:80"}},
		{`target "ftp://a.test/": scheme "ftp": want http or https`, []string{"--rules", rules, "ftp://a.test/"}},
		{`target "http://u@a.test/": user information in a URL: leave it out`, []string{"--rules", rules, "http://u@a.test/"}},
		{`target "a.test=x": "x" is no IP address`, []string{"--rules", rules, "a.test=x"}},
		{"--guard: ", []string{"--rules", rules, "--guard", "lax", "a.test"}},
		{`--resolver: "x" is no ADDR:PORT`, []string{"--rules", rules, "--resolver", "x", "a.test"}},
		{"unknown flag: --nope", []string{"--nope", "a.test"}},
	}
	for _, tt := range tests {
		status, _, err := sluice(t, nil, "", append([]string{"acl", "test"}, tt.args...)...)
		assert.Equal(t, 2, status, tt.args)
		assert.Contains(t, err, tt.err)
	}
	// One wrong target does not hide the others.
	status, out, err := sluice(t, nil, "", "acl", "test", "--rules", rules, "127.1", "192.168.2.1", "0177.0.0.1")
	assert.Equal(t, 2, status)
	assert.Equal(t, "allow\t192.168.2.1:443\tline 3 192.168.2.1\n", out)
	assert.Equal(t, 2, strings.Count(err, "\n"))
}

func TestACLTestResolver(t *testing.T) {
	dns := nettest.NewDNS(t)
	dns.Set("dual.test", nettest.Addrs("192.168.1.7", "203.0.113.5"))
	rules := write(t, "rules", exampleRules)
	status, out, _ := sluice(t, nil, "", "acl", "test", "--rules", rules, "--resolver", dns.Addr().String(), "dual.test:80", "www.example.com", "nx.test")
	assert.Equal(t, 1, status)
	lines := strings.Split(out, "\n")
	assert.Equal(t, "allow\tdual.test:80\tline 4 *\t192.168.1.7 deny (line 2 !192.168.1.0/24), 203.0.113.5 allow (line 4 *)", lines[0])
	assert.Equal(t, "deny\twww.example.com:443\tline 1 !*.example.com", lines[1])
	assert.Contains(t, lines[2], "deny\tnx.test:443\tlook up nx.test")
	assert.Empty(t, dns.Asked("www.example.com"), "denied whatever it resolves to")
}

// Every wrong setting is reported at once, with status 2, before anything listens.
func TestProxyProblems(t *testing.T) {
	status, out, err := sluice(t, []string{"EGRESS_SOURCE=nonsense", "EGRESS_HTTP_PROXY_DESTINATION=*\nx y\n10.0.0.300"}, "",
		"proxy", "--listen", "nowhere:1", "--head-timeout", "soon", "--guard", "lax")
	assert.Equal(t, 2, status)
	assert.Empty(t, out)
	for _, want := range []string{"EGRESS_SOURCE", "Wildcard must be last rule, if present", "Bad destination 'x y'", "Bad destination '10.0.0.300'", "--listen", "--head-timeout", "--guard"} {
		assert.Contains(t, err, want)
	}
	assert.NotContains(t, err, "listens on")
}

func TestProxyCheck(t *testing.T) {
	status, out, err := sluice(t, []string{"EGRESS_HTTP_PROXY_DESTINATION=*", "EGRESS_SOURCE=127.0.0.1/8"}, "", "proxy", "--check")
	assert.Equal(t, 0, status, err)
	assert.Empty(t, out+err)
	status, _, err = sluice(t, []string{"EGRESS_HTTP_PROXY_DESTINATION=*", "EGRESS_SOURCE=192.0.2.77"}, "", "proxy", "--check")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, "EGRESS_SOURCE 192.0.2.77 is not an address of this host (it has ")
}

func TestNoCommand(t *testing.T) {
	status, _, err := sluice(t, nil, "")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, "EGRESS_HTTP_PROXY_DESTINATION  for sluice proxy")
	status, _, err = sluice(t, nil, "", "frobnicate")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, `unknown command "frobnicate"`)
	status, _, err = sluice(t, []string{"EGRESS_ROUTER_MODE=init", "EGRESS_HTTP_PROXY_DESTINATION=*", "SERVICE_DEST=x"}, "")
	assert.Equal(t, 2, status)
	assert.Equal(t, `sluice: no command given, and the variables that are set name several:
  EGRESS_ROUTER_MODE  for sluice-netsetup
  EGRESS_HTTP_PROXY_DESTINATION  for sluice proxy
  SERVICE_DEST  for sluice tcp
Keep those of one, or name the command.
`, err)
	// The environment picks the mode; the wrong rules show that it was proxy.
	status, _, err = sluice(t, []string{"EGRESS_HTTP_PROXY_DESTINATION=10.0.0.300"}, "")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, "EGRESS_HTTP_PROXY_DESTINATION:1: Bad destination '10.0.0.300'")
}

// What the command line does not know is an error that says what was meant, on
// every level; it is never the help with status 0.
func TestUnknownWords(t *testing.T) {
	const help = "\nsluice --help lists the commands.\n"
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"acl", "chekc"}, `unknown command "chekc" for "sluice acl"; did you mean check?`},
		{[]string{"acl", "frobnicate"}, `unknown command "frobnicate" for "sluice acl"`},
		{[]string{"acl"}, "sluice acl: name a command: check, diff, explain, hash, lint, suggest, test"},
		{[]string{"porxy"}, `unknown command "porxy" for "sluice"; did you mean proxy?`},
		{[]string{"help", "porxy"}, `unknown command "porxy" for "sluice"; did you mean proxy?`},
		{[]string{"help", "acl", "tset"}, `unknown command "tset" for "sluice acl"; did you mean test?`},
		{[]string{"completion", "bahs"}, `unknown command "bahs" for "sluice completion"; did you mean bash?`},
		{[]string{"proxy", "rules.txt"}, `sluice proxy takes no arguments, and "rules.txt" is one`},
		{[]string{"version", "x"}, `sluice version takes no arguments, and "x" is one`},
		{[]string{"proxy", "--rule", "x"}, "unknown flag: --rule; did you mean --rules?"},
		{[]string{"tcp", "--chekc"}, "unknown flag: --chekc; did you mean --check?"},
		{[]string{"acl", "test", "--rulse=x", "a.test"}, "unknown flag: --rulse; did you mean --rules?"},
		{[]string{"tcp", "--rules", "x"}, "unknown flag: --rules of sluice tcp; it is one of sluice acl explain and sluice acl test and sluice proxy"},
		{[]string{"--check"}, "unknown flag: --check of sluice; it is one of sluice migrate and sluice proxy and sluice tcp"},
		{[]string{"proxy", "--xyzzy"}, "unknown flag: --xyzzy"},
		{[]string{"proxy", "-x"}, "unknown shorthand flag: 'x' in -x"},
	} {
		status, out, err := sluice(t, nil, "", tt.args...)
		assert.Equal(t, 2, status, tt.args)
		assert.Equal(t, "sluice: "+tt.want+help, err, tt.args)
		assert.Empty(t, out, tt.args)
	}
	status, _, err := sluice(t, []string{"SLUICE_RULE=/r", "EGRESS_HTTP_PROXY_DESTINATION=*"}, "", "proxy", "--check")
	assert.Equal(t, 2, status)
	assert.Equal(t, "SLUICE_RULE: no such setting; did you mean SLUICE_RULES?\n", err)
	for _, args := range [][]string{{"help"}, {"help", "acl", "check"}, {"--help"}, {"acl", "--help"}} {
		status, out, err := sluice(t, nil, "", args...)
		assert.Equal(t, 0, status, args)
		assert.Contains(t, out+err, "Usage:", args)
	}
}

func TestVersionAndHelp(t *testing.T) {
	status, out, _ := sluice(t, nil, "", "version")
	assert.Equal(t, 0, status)
	assert.Regexp(t, `^sluice dev go1\.\S+ linux/\S+\nbuilt from a commit that is not known\n$`, out)
	status, flag, _ := sluice(t, nil, "", "--version")
	assert.Equal(t, 0, status)
	assert.Equal(t, out, flag)
	_, out, _ = sluice(t, nil, "", "version", "--json")
	assert.Regexp(t, `(?s)^\{\n  "version": "dev",\n  "modified": false,\n  "go": "go1\.\S+",\n  "platform": "linux/\w+",\n  "modules": \[.*\]\n\}\n$`, out)
	_, out, err := sluice(t, nil, "", "proxy", "--help")
	for _, group := range []string{"Listening:", "Policy:", "Outbound:", "Limits:", "Time-outs:", "Logs:"} {
		assert.Contains(t, out+err, group)
	}
}
