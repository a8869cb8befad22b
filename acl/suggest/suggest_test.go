package suggest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
)

// line is one of sluice proxy's log.
func line(verdict, target, address, reason string) string {
	method := "CONNECT"
	if strings.Contains(target, "/") {
		method = "GET"
	}
	if address != "" {
		address = fmt.Sprintf(`"address":%q,`, address)
	}
	return fmt.Sprintf(`{"time":"2026-11-21T04:05:06.007008Z","method":%q,"target":%q,"verdict":%q,%s"reason":%q}`+"\n", method, target, verdict, address, reason)
}

func reached(targets ...string) string {
	var b strings.Builder
	for _, t := range targets {
		b.WriteString(line("allow", t, "192.0.2.1:443", "line 1 *"))
	}
	return b.String()
}

// ended is a line of what was allowed and ended otherwise.
func ended(target, how string) string {
	return `{"time":"2026-11-21T04:05:06Z","method":"CONNECT","target":"` + target + `","verdict":"allow","reason":"line 1 *","address":"192.0.2.1:443",` + how + "}\n"
}

func suggested(t *testing.T, o Options, logs ...string) *Suggestion {
	t.Helper()
	var l Log
	for i, text := range logs {
		require.NoError(t, Read(strings.NewReader(text), fmt.Sprintf("log%d", i), l.Add))
	}
	return l.Suggest(o)
}

func texts(s *Suggestion) (all []string) {
	for _, r := range s.Rules {
		all = append(all, r.Text)
	}
	return all
}

func TestRules(t *testing.T) {
	for name, tt := range map[string]struct {
		log  string
		fold int
		want []string
	}{
		"nothing":            {"", 0, nil},
		"three of a domain":  {reached("a.example.com:443", "b.example.com:443", "http://c.example.com/x"), 0, []string{"a.example.com", "b.example.com", "c.example.com"}},
		"four of a domain":   {reached("a.example.com:443", "B.Example.com.:443", "c.example.com:80", "example.com:443"), 0, []string{"*.example.com"}},
		"fold of two":        {reached("a.example.com:443", "b.example.com:443"), 2, []string{"*.example.com"}},
		"the lowest":         {reached("1.a.example.com:443", "2.a.example.com:443", "3.a.example.com:443", "4.a.example.com:443", "b.example.com:443"), 0, []string{"*.a.example.com", "b.example.com"}},
		"folds are folded":   {reached("1.a.example.com:443", "2.a.example.com:443", "1.b.example.com:443", "2.b.example.com:443"), 2, []string{"*.example.com"}},
		"a public suffix":    {reached("a.co.uk:443", "b.co.uk:443", "c.co.uk:443", "d.co.uk:443", "e.github.io:443", "f.github.io:443", "g.github.io:443", "h.github.io:443"), 0, []string{"e.github.io", "f.github.io", "g.github.io", "h.github.io", "a.co.uk", "b.co.uk", "c.co.uk", "d.co.uk"}},
		"above one":          {reached("sts.amazonaws.com:443", "iam.amazonaws.com:443", "ec2.amazonaws.com:443", "kms.amazonaws.com:443"), 0, []string{"ec2.amazonaws.com", "iam.amazonaws.com", "kms.amazonaws.com", "sts.amazonaws.com"}},
		"top level":          {reached("a.test:443", "b.test:443", "c.test:443", "d.test:443"), 0, []string{"a.test", "b.test", "c.test", "d.test"}},
		"ports":              {reached("a.test:8443", "a.test:443", "b.test:22", "http://b.test:22/"), 0, []string{"a.test:443,8443", "b.test:22"}},
		"ports are apart":    {reached("a.example.com:8443", "b.example.com:8443", "c.example.com:443", "d.example.com:443"), 2, []string{"*.example.com", "*.example.com:8443"}},
		"literals":           {reached("192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443", "192.0.2.4:5432", "[2001:db8::1]:8443", "[2001:db8::2]:443"), 0, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4:5432", "2001:db8::2", "[2001:db8::1]:8443"}},
		"denied below":       {reached("a.example.com:443", "b.example.com:443") + line("deny", "x.y.example.com:443", "", "line 1 !x.y.example.com"), 2, []string{"a.example.com", "b.example.com"}},
		"denied at times":    {reached("a.example.com:443", "b.example.com:443") + line("deny", "a.example.com:443", "", "default"), 2, []string{"*.example.com"}},
		"another port of it": {reached("a.example.com:443") + line("deny", "a.example.com:22", "", "default"), 0, []string{"a.example.com:443"}},
		"revoked below":      {reached("a.corp.test:443", "b.corp.test:443") + ended("c.corp.test:443", `"error":"http_request_denied","revoked":"line 1 !c.corp.test"`), 2, []string{"a.corp.test", "b.corp.test"}},
		"revoked alone":      {ended("a.test:443", `"error":"http_request_denied","revoked":"default"`), 0, nil},
		"open until learned": {ended("a.test:443", `"file":"--learn","error":"http_request_denied","revoked":"default"`), 0, []string{"a.test"}},
		"learned, denied":    {ended("a.test:443", `"file":"--learn","error":"http_request_denied","revoked":"line 1 !a.test"`), 0, nil},
		"revoked at times":   {reached("a.test:443") + ended("a.test:443", `"error":"http_request_denied","revoked":"default"`), 0, []string{"a.test"}},
		"refused by a check": {ended("a.test:443", `"error":"http_request_denied","check":"protocol","details":"the client's first bytes: no TLS"`), 0, nil},
		"told by a check":    {ended("a.test:443", `"check":"protocol","details":"the client's first bytes: no TLS"`), 0, []string{"a.test"}},
		"tcp revoked":        {`{"listener":":5432","destination":"db.test:5432","address":"192.0.2.1:5432","end":"revoked","revoked":"default"}` + "\n", 0, nil},
		"metadata":           {"1795233907.049 9 10.1.2.3 TCP_MISS/200 88 GET http://169.254.169.254/latest/ - HIER_DIRECT/169.254.169.254 -\n", 0, nil},
		"an embedded one":    {reached("[64:ff9b::a9fe:a9fe]:80"), 0, nil},
		"only what failed":   {line("allow", "a.test:443", "", "line 1 *") + line("none", "b.test:443", "", ""), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := suggested(t, Options{Fold: tt.fold}, tt.log)
			assert.Equal(t, tt.want, texts(s))
			p, err := acl.Parse(s.String())
			require.NoError(t, err)
			assert.Equal(t, len(s.Rules), p.Len())
			assert.True(t, p.Whole())
		})
	}
}

func TestBeside(t *testing.T) {
	s := suggested(t, Options{Guard: acl.GuardStrict},
		reached("a.test:443")+
			line("deny", "b.test:443", "", "line 1 of rules\n*\n!b.test")+
			line("deny", "a.test:443", "", "guard loopback")+
			line("allow", "a.test:443", "10.0.0.1:443", "line 3 *")+
			`{"time":"2026-11-21T04:05:07Z","target":"c.test:443","verdict":"allow","error":"dns_error"}`+"\n"+
			`{"time":"2026-11-21T04:05:09Z","target":"a.test:443","verdict":"allow","address":"198.51.100.1:443","shadow":"deny","shadow_line":0}`+"\n"+
			line("none", "/", "", ""))
	assert.Equal(t, `# 7 recorded requests, of which these rules allow what was reached. Read them before they are in force.
# 1 of them had no target that a rule could be for.
a.test # 3 requests, 2026-11-21T04:05:06Z to 2026-11-21T04:05:09Z, 1 not allowed by the shadow rules

# denied:
#   b.test:443  1 request, 2026-11-21T04:05:06Z: line 1 of rules?*?!b.test

# guarded:
#   a.test:443  1 request, 2026-11-21T04:05:06Z: guard loopback
#   a.test:443  3 requests, 2026-11-21T04:05:06Z to 2026-11-21T04:05:09Z, 1 not allowed by the shadow rules: guard special-purpose: it was reached at 10.0.0.1, which wants a rule of its own
#   a.test:443  3 requests, 2026-11-21T04:05:06Z to 2026-11-21T04:05:09Z, 1 not allowed by the shadow rules: guard special-purpose: it was reached at 192.0.2.1, which wants a rule of its own
#   a.test:443  3 requests, 2026-11-21T04:05:06Z to 2026-11-21T04:05:09Z, 1 not allowed by the shadow rules: guard special-purpose: it was reached at 198.51.100.1, which wants a rule of its own

# failed:
#   c.test:443  1 request, 2026-11-21T04:05:07Z: dns_error
#@ end
`, s.String())
}

// An address that the guard stops gets no rule: that would unlock it for names too. Where there is no
// guard, or the rules of the log were for it, it is an address like others.
func TestGuardedLiterals(t *testing.T) {
	log := reached("http://169.254.169.254/latest/", "127.0.0.1:9090") + line("allow", "10.0.0.1:443", "10.0.0.1:443", "line 1 *") + line("allow", "metadata.test:80", "169.254.169.254:80", "line 1 *") +
		ended("a.test:22", `"error":"http_request_denied","revoked":"line 2 !a.test"`) +
		ended("b.test:22", `"error":"http_request_denied","check":"protocol","details":"the client's first bytes: no TLS"`)
	assert.Equal(t, `# 6 recorded requests, of which these rules allow what was reached. Read them before they are in force.
metadata.test # 1 request, 2026-11-21T04:05:06Z
10.0.0.1      # 1 request, 2026-11-21T04:05:06Z

# denied:
#   a.test:22  1 request, 2026-11-21T04:05:06Z: revoked: line 2 !a.test
#   b.test:22  1 request, 2026-11-21T04:05:06Z: the client's first bytes: no TLS

# guarded:
#   127.0.0.1:9090  1 request, 2026-11-21T04:05:06Z: guard loopback: it was reached at 127.0.0.1, which wants a rule of its own
#   169.254.169.254:80  1 request, 2026-11-21T04:05:06Z: guard link-local: it was reached at 169.254.169.254, which wants a rule of its own
#   metadata.test:80  1 request, 2026-11-21T04:05:06Z: guard link-local: it was reached at 169.254.169.254, which wants a rule of its own
#@ end
`, suggested(t, Options{}, log).String())
	assert.Equal(t, []string{"metadata.test"}, texts(suggested(t, Options{Guard: acl.GuardStrict}, log)))
	assert.Equal(t, []string{"metadata.test", "10.0.0.1", "127.0.0.1:9090", "169.254.169.254"}, texts(suggested(t, Options{Guard: acl.GuardOff}, log)))
}

// Lines of squid itself, and of sluice's squid and TCP formats, say the same.
func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		line    string
		target  string
		addr    string
		outcome Outcome
	}{
		{"1795233907.049   1042 10.1.2.3 TCP_MISS/200 1234 GET http://a.test/x - HIER_DIRECT/192.0.2.34 text/html", "a.test:80", "192.0.2.34", Reached},
		{"1795233907.049      0 10.1.2.3 TCP_DENIED/403 3939 CONNECT b.test:443 - HIER_NONE/- text/html", "b.test:443", "invalid IP", Denied},
		{"1795233907.049      0 10.1.2.3 TCP_DENIED/407 3939 CONNECT b.test:443 - HIER_NONE/- text/html", "b.test:443", "invalid IP", Failed},
		{"1795233907.049    812 10.1.2.3 TCP_TUNNEL/200 5120 CONNECT [2001:db8::1]:8443 ann HIER_DIRECT/2001:db8::1 -", "[2001:db8::1]:8443", "2001:db8::1", Reached},
		{"1795233907.049  60000 10.1.2.3 TCP_TUNNEL/503 0 CONNECT c.test:443 - HIER_NONE/- -", "c.test:443", "invalid IP", Failed},
		{"1795233907.049      0 10.1.2.3 TCP_MEM_HIT/200 88 GET http://d.test:8080/ - HIER_NONE/- text/css", "d.test:8080", "invalid IP", Reached},
		{"1795233907.049      9 10.1.2.3 TCP_MISS/200 88 GET ftp://e.test/ - FIRSTUP_PARENT/192.0.2.1 text/css", "e.test:21", "invalid IP", Reached},
		{"1795233907.049      9 10.1.2.3 TCP_MISS/502 88 GET http://f.test/ - HIER_NONE/- text/html", "f.test:80", "invalid IP", Failed},
		{"1795233907.049      0 10.1.2.3 NONE_NONE/000 0 - error:transaction-end-before-headers - HIER_NONE/- -", "", "invalid IP", Failed},
		{`{"time":"2026-11-05T03:04:05.006Z","listener":":5432","client":"192.0.2.7:40000","destination":"db.test:5432","address":"[2001:db8::1]:5432","attempts":1,"end":"closed"}`, "db.test:5432", "2001:db8::1", Reached},
		{`{"time":"2026-11-05T03:04:05.006Z","listener":":5432","client":"192.0.2.7:40000","attempts":0,"end":"refused","refused":"limit","error":"too many"}`, "", "invalid IP", Failed},
		{`{"target":"g.test:443"}`, "g.test:443", "invalid IP", Reached},
	} {
		var got []Request
		require.NoError(t, Read(strings.NewReader(tt.line+"\n"), "log", func(r *Request) { got = append(got, *r) }))
		require.Len(t, got, 1)
		target := ""
		if got[0].Target != (acl.Target{}) {
			target = got[0].Target.String()
		}
		assert.Equal(t, tt.target, target, tt.line)
		assert.Equal(t, tt.addr, got[0].Addr.String(), tt.line)
		assert.Equal(t, tt.outcome, got[0].Outcome, tt.line)
		if strings.HasPrefix(tt.line, "17") {
			assert.Equal(t, int64(1795233907049), got[0].Time.UnixMilli())
		}
	}
}

func TestUnreadable(t *testing.T) {
	for text, want := range map[string]string{
		"\n{\"target\":\"a.test:1\"}\nsluice listens on :8080\n": "log:3: no line of an access log: it is neither JSON nor squid's native format (time elapsed client result/status bytes method URL …)",
		`{"some":"thing"}` + "\n":                                `log:1: no line of an access log: it has neither "target" nor "listener"`,
		"{\n":                                                    "log:1: no line of an access log in JSON: unexpected end of JSON input",
		strings.Repeat("x", maxLine+1):                           "log:1: the line is too long for an access log",
	} {
		assert.EqualError(t, Read(strings.NewReader(text), "log", func(*Request) {}), want)
	}
	n := 0
	assert.NoError(t, Read(strings.NewReader(`{"time":"x","level":"INFO","msg":"reloaded"}`+"\n"+reached("a.test:443")+`{"target":"b.te`), "log", func(*Request) { n++ }))
	assert.Equal(t, 1, n, "a message, and a line that is being written")
}

// Whatever was recorded in whatever order: the list allows what was reached, on the engine, and nothing that
// was only denied; and it is the same.
func TestAllowsWhatWasReached(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.Custom(func(t *rapid.T) string {
			labels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, "labels")
			return strings.Join(append(labels, rapid.SampledFrom([]string{"example.com", "co.uk", "amazonaws.com", "test", "192.0.2.1"}).Draw(t, "domain")), ".")
		})
		var lines []string
		reachedAt, deniedAt := map[acl.Target]bool{}, map[acl.Target]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			text := fmt.Sprintf("%s:%d", host.Draw(t, "host"), rapid.SampledFrom([]int{80, 443, 22}).Draw(t, "port"))
			target, err := acl.ParseTarget(text)
			if err != nil {
				continue
			}
			if rapid.IntRange(0, 4).Draw(t, "denied") > 0 {
				lines = append(lines, reached(text))
				reachedAt[target] = true
			} else {
				lines = append(lines, line("deny", text, "", "default"))
				deniedAt[target] = true
			}
		}
		var logs [2]Log
		for i := range logs {
			if err := Read(strings.NewReader(strings.Join(lines, "")), "log", logs[i].Add); err != nil {
				t.Fatal(err)
			}
			rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		}
		o := Options{Fold: rapid.IntRange(2, 5).Draw(t, "fold")}
		s := logs[0].Suggest(o)
		if other := logs[1].Suggest(o); s.String() != other.String() {
			t.Fatalf("in another order:\n%s%s", s, other)
		}
		p, err := acl.Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		decide := func(target acl.Target) acl.Decision {
			if target.Host.IsAddr() {
				return p.DecideHost(target)
			}
			return p.DecideAddr(target, netip.MustParseAddr("198.51.100.7"))
		}
		for target := range reachedAt {
			if d := decide(target); d.Verdict != acl.Allow {
				t.Fatalf("%s was reached, and is denied by\n%s", target, s)
			}
		}
		for target := range deniedAt {
			if d := decide(target); !reachedAt[target] && d.Verdict != acl.Deny {
				t.Fatalf("%s was denied, and is allowed by %s of\n%s", target, d.Reason(), s)
			}
		}
		for _, r := range s.Rules {
			if name, ok := strings.CutPrefix(r.Text, "*."); ok {
				name, _, _ = strings.Cut(name, ":")
				if slices.Contains([]string{"com", "co.uk", "uk", "amazonaws.com", "test"}, name) {
					t.Fatalf("%s", r.Text)
				}
			}
		}
	})
}
