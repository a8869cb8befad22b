package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestACLDiff(t *testing.T) {
	old := write(t, "old", "#@ owner=web\n*.example.com:443\n\n10.0.0.0/8\n")
	tests := []struct {
		status int
		out    string
		args   []string
	}{
		{0, "equivalent: both lists decide alike on every target\n", []string{old, write(t, "new", "*.Example.com.:443\n10.128.0.0/9\n10.0.0.0/9\n")}},
		{1, `2 opened, 2 closed

closed by line 1 !ads.example.com (T-1)
  was line 2 *.example.com:443 (web)  port 443              ads.example.com:443=1.0.0.0
  was line 4 10.0.0.0/8               port 1-442,444-65535  ads.example.com:80=10.0.0.0

opened by line 2 *.example.com
  was default  port 1-442,444-65535  example.com:80=1.0.0.0

opened by line 3 *
  was default  port any  x:443=1.0.0.0
`, []string{old, write(t, "new", "!ads.example.com #@ ticket=T-1\n*.example.com\n*\n")}},
		{1, "3 opened, 0 closed\n\nopened by line 1 *.example.com:443\n  (by others too, for other names)\n" +
			"  was guard own address  port 443  example.com:443=10.0.0.5  (acl test --own 10.0.0.5)\n  was guard own address  port 443  example.com:443=64:ff9b::a00:5  (acl test --own 10.0.0.5)\n\nopened by line 2 10.0.0.0/8\n  was guard own address  port any  10.0.0.5:443  (acl test --own 10.0.0.5)\n",
			[]string{old, write(t, "new", "*.example.com:443\n10.0.0.0/8\n10.0.0.5\n")}},
		{0, "equivalent: both lists decide alike on every target\n", []string{"--own", "192.0.2.1", old, write(t, "new", "*.example.com:443\n10.0.0.0/8\n10.0.0.5\n")}},
		{1, "0 opened, 0 closed\nline 1 *.example.com:443: protocol \"tls\" instead of \"\"\n", []string{old, write(t, "new", "*.example.com:443 #@ protocol=tls\n10.0.0.0/8\n")}},
	}
	for _, tt := range tests {
		status, out, err := sluice(t, nil, "", append([]string{"acl", "diff"}, tt.args...)...)
		assert.Equal(t, tt.out, out, tt.args)
		assert.Equal(t, tt.status, status, out)
		assert.Empty(t, err)
	}
	fewer := write(t, "fewer", "*.example.com:443\n")
	status, out, _ := sluice(t, nil, "", "acl", "diff", "--implies", old, fewer)
	assert.Equal(t, 0, status, "nothing is opened")
	assert.Contains(t, out, "closed by default")
	status, out, _ = sluice(t, nil, "*.example.com:443\n", "acl", "diff", "--implies", "--only-opened", "-", old)
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "opened by line 4 10.0.0.0/8")
	status, _, _ = sluice(t, nil, "", "acl", "diff", "--old-text", "*.example.com:443", fewer)
	assert.Equal(t, 0, status)
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"name two files of rules, OLD and NEW; - is standard input\n", []string{old}},
		{"--old-text and OLD are both given; keep one of them\n", []string{"--old-text", "*", old, fewer}},
		{"--only-opened and --only-closed are both given; keep one of them\n", []string{"--only-opened", "--only-closed", old, fewer}},
		{"OLD and NEW are both standard input; name a file for one of them\n", []string{"-", "-"}},
		{"--log and rules are both standard input; name a file for one of them\n", []string{"--log", "-", "-", "x"}},
		{"--own: \"x\" is no IP address\n", []string{"--own", "x", old, fewer}},
	} {
		status, out, err := sluice(t, nil, "", append([]string{"acl", "diff"}, tt.args...)...)
		assert.Equal(t, 2, status)
		assert.Equal(t, tt.want, err)
		assert.Empty(t, out)
	}
	// What was recorded, and would be decided otherwise.
	log := write(t, "access.json", `{"method":"CONNECT","target":"a.example.com:443","verdict":"allow","address":"192.0.2.7:443"}
{"method":"CONNECT","target":"10.1.1.1:80","verdict":"allow","address":"10.1.1.1:80"}
{"method":"GET","target":"http://10.1.1.1/x","verdict":"allow","address":"10.1.1.1:80"}
{"method":"GET","target":"http://other.test/","verdict":"deny","reason":"default"}
`)
	_, out, err := sluice(t, nil, "", "acl", "diff", "--log", log, old, fewer)
	assert.Contains(t, out, "  2  10.1.1.1:80    allow -> deny    default\n", err)
	assert.NotContains(t, out, "a.example.com")
	// A bound that is reached is no answer.
	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, "h%d.test\n", i)
	}
	status, out, _ = sluice(t, nil, "", "acl", "diff", "--limit", "1ns", old, write(t, "many", many.String()))
	assert.Equal(t, 2, status)
	assert.Contains(t, out, "cannot tell: ")
}

// Each target of a difference is decided by acl test as diff says.
func TestACLDiffTargets(t *testing.T) {
	old := write(t, "old", "!*.ads.test\n*.test:80,443\n192.0.2.0/24\n")
	now := write(t, "new", "*.test:443-8443\n!192.0.2.7\n192.0.0.0/16\n10.0.0.5\n")
	_, out, _ := sluice(t, nil, "", "acl", "diff", "--json", old, now)
	var d diffOutput
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	require.Greater(t, len(d.Changes), 4)
	for _, c := range d.Changes {
		for file, want := range map[string]decided{old: c.Old, now: c.New} {
			args := []string{"acl", "test", "--rules", file, c.Target}
			if c.Own != "" {
				args = append(args, "--own", c.Own)
			}
			_, out, err := sluice(t, nil, "", args...)
			assert.Truef(t, strings.HasPrefix(out, want.Verdict+"\t"), "%s: %s %s, want %s", c.Target, out, err, want.Verdict)
			assert.Contains(t, out, want.Reason)
		}
	}
}

func TestACLLint(t *testing.T) {
	status, out, err := sluice(t, nil, "*.example.com\n!ads.example.com\n", "acl", "lint", "-")
	assert.Equal(t, 1, status, err)
	const never = "'!ads.example.com' never decides: line 1 (*.example.com) comes first; ads.example.com:443=198.51.100.1 is decided by line 1 *.example.com"
	assert.Equal(t, "-:2: never-decides: "+never+"\n", out)
	_, out, _ = sluice(t, nil, "*.example.com\n!ads.example.com\n", "acl", "lint", "--format", "github", "-")
	assert.Equal(t, "::warning file=-,line=2,title=never-decides::"+never+"\n", out)
	status, out, err = sluice(t, nil, "*.example.com\n", "acl", "lint", "-")
	assert.Equal(t, 0, status, err)
	assert.Empty(t, out)
	status, _, err = sluice(t, nil, "*.example.com\n", "acl", "lint", "--format", "xml", "-")
	assert.Equal(t, 2, status)
	assert.Equal(t, "--format: write text, json, github, gitlab or sarif\n", err)
	_, out, _ = sluice(t, nil, "*.co.uk\n", "acl", "lint", "--format", "sarif", "-")
	var log struct {
		Version string
		Runs    []struct {
			Results []struct {
				RuleID, Level string
				Locations     []struct {
					PhysicalLocation struct{ Region struct{ StartLine int } }
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &log))
	require.Equal(t, "2.1.0", log.Version)
	require.Equal(t, "look-alike", log.Runs[0].Results[0].RuleID)
	require.Equal(t, 1, log.Runs[0].Results[0].Locations[0].PhysicalLocation.Region.StartLine)
}

func TestACLExplain(t *testing.T) {
	rules := write(t, "rules", "#@ owner=web\n!ads.example.com\n*.example.com:8443\n*.example.com\nexample.com\n10.0.0.0/8 #@ expires=2020-01-01\n")
	status, out, err := sluice(t, nil, "", "acl", "explain", "--rules", rules, "ads.example.com")
	assert.Equal(t, 1, status, err)
	assert.Equal(t, `deny  ads.example.com:443
by    line 2 !ads.example.com (web)

what came near:
  line 3  *.example.com:8443  it matches the name, on other ports
  line 4  *.example.com       it matches the name, and comes later
  line 5  example.com         it is for that name alone; *.example.com would match
`, out)
	status, out, _ = sluice(t, nil, "", "acl", "explain", "--rules", rules, "10.1.1.1:80")
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "line 6  10.0.0.0/8  it matches 10.1.1.1, and has expired")
	_, out, _ = sluice(t, nil, "", "acl", "explain", "--rules", rules, "--own", "192.0.2.9", "example.com=192.0.2.9")
	assert.Contains(t, out, "by            guard own address\n")
	assert.Contains(t, out, "line 4  *.example.com       it matches the name, and the guard denies that\n")
}

// The test vectors of docs/policy.md, and what must not matter.
func TestACLHash(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policy.md")
	require.NoError(t, err)
	for _, tt := range []struct{ rules, guard string }{
		{"", "default"},
		{"*\n", "off"},
		{"!10.0.0.0/8\n*.example.com:80,443 #@ expires=2027-03-01 protocol=tls\n", "strict"},
	} {
		status, out, stderr := sluice(t, nil, tt.rules, "acl", "hash", "--guard", tt.guard, "-")
		require.Equal(t, 0, status, stderr)
		assert.Contains(t, string(doc), strings.TrimSpace(out), "%q", tt.rules)
	}
	hash := func(rules string) string {
		_, out, _ := sluice(t, nil, rules, "acl", "hash", "-")
		return out
	}
	one := hash("a.test:80,443\n!::ffff:10.0.0.1/104\n")
	assert.Equal(t, one, hash("# why\n A.Test.:443,80 #@ owner=x\n\n! 10.0.0.0/8\n#@ end\n"))
	for _, other := range []string{"a.test:80\n!10.0.0.0/8\n", "!10.0.0.0/8\na.test:80,443\n", "a.test:80,443 #@ expires=2027-01-01\n!10.0.0.0/8\n", "a.test:80,443 #@ protocol=tls\n!10.0.0.0/8\n"} {
		assert.NotEqual(t, one, hash(other), other)
	}
}

// An assertion that does not hold makes the text wrong, for acl check and for the proxy.
func TestAssertionsAtStart(t *testing.T) {
	rules := write(t, "rules", "#@ assert deny 10.0.0.0/8\n*\n")
	want := rules + ":1: 'assert deny 10.0.0.0/8' does not hold: line 2 * allows x:443=10.0.0.0\n"
	status, _, err := sluice(t, nil, "", "acl", "check", rules)
	assert.Equal(t, 2, status)
	assert.Equal(t, want, err)
	status, _, err = sluice(t, []string{"EGRESS_SOURCE=127.0.0.1"}, "", "proxy", "--check", "--rules", rules)
	assert.Equal(t, 2, status)
	assert.Equal(t, want, err)
	status, _, err = sluice(t, []string{"EGRESS_SOURCE=127.0.0.1"}, "", "proxy", "--check", "--guard", "strict", "--rules", rules)
	assert.Equal(t, 0, status, err)

	status, _, err = sluice(t, nil, "*.co.uk", "acl", "check", "-")
	assert.Equal(t, 0, status)
	assert.Contains(t, err, "-:1: '*.co.uk' allows every name under co.uk")
	assert.Contains(t, err, "-: the text ends without a newline: it may be cut off; end it with the line #@ end (warning)\n")
	_, _, err = sluice(t, nil, "# all *.example.com 10.0.0.0/8\n", "acl", "check", "-")
	assert.Contains(t, err, "the text is one comment as a whole")
	_, _, err = sluice(t, nil, "a.test\n#@ end", "acl", "check", "-")
	assert.Empty(t, err)
}

const (
	oldTenants = `rules: "*.example.com"
tenants:
- {name: shop, clients: 10.0.0.0/8, rules: a.test}
- {name: gone, clients: 192.0.2.1, rules: b.test}
- {name: same, clients: 192.0.2.2, rules: "c.test", inspect: {hosts: [{host: c.test, requests: "GET /a"}]}}
`
	newTenants = `rules: "*.example.com"
tenants:
- {name: shop, clients: [10.0.0.0/8, 172.16.0.0/12], rules: "a.test\nz.test"}
- {name: same, clients: 192.0.2.2, rules: "c.test # why", inspect: {hosts: [{host: c.test, requests: "GET,HEAD /%61", browsers: true}]}}
- {name: ci, clients: 192.0.2.3, rules: "*.example.com:443"}
`
)

// Of configurations the rules of each tenant are compared, and the rest is listed.
func TestACLDiffConfigs(t *testing.T) {
	old, now := write(t, "old.yaml", oldTenants), write(t, "new.yaml", newTenants)
	status, out, err := sluice(t, nil, "", "acl", "diff", "--configs", old, now)
	assert.Equal(t, 1, status, err)
	for _, want := range []string{
		"tenant shop: its clients are 10.0.0.0/8, 172.16.0.0/12, and were 10.0.0.0/8\n",
		"tenant ci is new; before, its clients were of no tenant, or of another\n",
		"tenant gone is gone; its clients are of no tenant, or of another\n",
		"tenants are asked in the order shop, same, ci, and were in shop, gone, same\n",
		"tenant same: no more inspect c.test: GET /a\n", "tenant same: new inspect c.test: GET,HEAD /a\n", "tenant same: new inspect c.test: browsers\n",
		"\ntenant shop: 1 opened, 0 closed\n\nopened by line 4 z.test\n",
		"\ntenant ci: 0 opened, ", "\ntenant gone: ",
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "tenant same: 0 opened")
	assert.NotContains(t, out, "tenant default")

	status, out, err = sluice(t, nil, "", "acl", "diff", "--configs", old, old)
	assert.Equal(t, []any{0, "equivalent: both configurations decide alike for every client\n", ""}, []any{status, out, err})
	closed := write(t, "closed.yaml", strings.Replace(oldTenants, "rules: a.test}", "rules: 'a.test:443'}", 1))
	status, _, _ = sluice(t, nil, "", "acl", "diff", "--configs", "--implies", old, closed)
	assert.Equal(t, 0, status)
	status, _, _ = sluice(t, nil, "", "acl", "diff", "--configs", "--implies", closed, old)
	assert.Equal(t, 1, status)
	status, _, _ = sluice(t, nil, "", "acl", "diff", "--configs", "--implies", old, now)
	assert.Equal(t, 1, status)
	_, out, _ = sluice(t, nil, "", "acl", "diff", "--configs", old, now)
	status, piped, err := sluice(t, nil, oldTenants, "acl", "diff", "--configs", "-", now)
	assert.Equal(t, []any{1, out, ""}, []any{status, piped, err}, "standard input is as good as a file")
	status, _, err = sluice(t, nil, oldTenants, "acl", "diff", "--configs", "-", "-")
	assert.Equal(t, 2, status)
	assert.Equal(t, "OLD and NEW are both standard input; name a file for one of them\n", err)
	status, _, err = sluice(t, nil, "rules: [", "acl", "lint", "--config", "-")
	assert.Equal(t, 2, status)
	assert.Regexp(t, "^-:1: ", err)
	status, _, err = sluice(t, nil, "", "acl", "lint", "--config", t.TempDir())
	assert.Equal(t, 2, status)
	assert.Regexp(t, "^--config: read .*: is a directory\n$", err)
	status, _, err = sluice(t, nil, "", "acl", "diff", "--configs", old)
	assert.Equal(t, []any{2, "--configs compares two configuration files, OLD and NEW, without --old-text and --log\n"}, []any{status, err})
}

func TestACLSuggest(t *testing.T) {
	one := write(t, "one.log", `{"time":"2026-11-21T04:05:06Z","method":"CONNECT","target":"a.example.com:443","verdict":"allow","address":"192.0.2.1:443"}
{"time":"2026-11-21T04:05:07Z","method":"CONNECT","target":"b.example.com:443","verdict":"allow","address":"192.0.2.2:443"}
`)
	two := write(t, "two.log", "1795233907.049   1042 10.1.2.3 TCP_MISS/200 1234 GET http://example.com/x - HIER_DIRECT/192.0.2.34 text/html\n")
	const three = `*.example.com # 3 requests for 3 names, 2026-11-21T04:05:06Z to 2026-11-21T04:05:07Z
#@ end
`
	const head = "# 3 recorded requests, of which these rules allow what was reached. Read them before they are in force.\n"
	status, out, err := sluice(t, nil, "", "acl", "suggest", "--fold", "3", "--log", one, two)
	assert.Equal(t, 0, status, err)
	assert.Equal(t, head+three, out)
	text, wrong := os.ReadFile(one)
	require.NoError(t, wrong)
	_, again, _ := sluice(t, nil, string(text), "acl", "suggest", "--fold", "3", "--log", two, "--log", "-")
	assert.Equal(t, out, again)
	status, _, err = sluice(t, nil, out, "acl", "check", "-")
	assert.Equal(t, 0, status, err)
	assert.Empty(t, err)
	_, out, _ = sluice(t, nil, `{"tenant":"shop","target":"a.test:443"}
{"tenant":"other","target":"b.test:443"}
`, "acl", "suggest", "--tenant", "shop", "--log", "-")
	assert.Contains(t, out, "# 1 recorded request, of which these rules allow what was reached. Read them before they are in force.\na.test # 1 request\n#@ end\n")
	status, out, _ = sluice(t, nil, `{"target":"d.test:443","verdict":"deny","reason":"default"}`+"\n", "acl", "suggest", "--log", "-")
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "# Nothing was reached: no rule.\n\n# denied:\n#   d.test:443  1 request: default\n")
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"name an access log with --log; - is standard input\n", nil},
		{"--fold: 1 names are no domain's; write 2 or more\n", []string{"--fold", "1", "--log", one}},
		{"--log: " + one + " is named twice, and would count twice\n", []string{"--log", one, one}},
		{"--log: -:1: no line of an access log: it is neither JSON nor squid's native format (time elapsed client result/status bytes method URL …)\n", []string{"--log", "-"}},
	} {
		status, out, err := sluice(t, nil, "what\n", append([]string{"acl", "suggest"}, tt.args...)...)
		assert.Equal(t, 2, status)
		assert.Equal(t, tt.want, err)
		assert.Empty(t, out)
	}
}
