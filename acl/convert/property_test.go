package convert_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/convert"
)

// question is a request as squid sees it. What an acl asks of a name it asks of the one
// address that it has.
type question struct {
	client  netip.Addr
	connect bool
	host    string // a name, or the address
	addr    netip.Addr
	port    int
	extra   bool // whether acls that rules cannot say match
}

func (q question) named() bool { _, err := netip.ParseAddr(q.host); return err != nil }

// modelACL is an acl with its meaning, which comes from the generator and not from a parser.
type modelACL struct {
	text    string // type and values
	matches func(question) bool
}

// modelLine is a line of http_access.
type modelLine struct {
	allow   bool
	acls    []int
	negated []bool
}

// decide is squid's evaluation: the first line all of whose acls match, else the opposite of
// the last. line counts from 0.
func decide(acls []modelACL, lines []modelLine, q question) (allow bool, line int) {
	for i, l := range lines {
		all := true
		for k, a := range l.acls {
			all = all && acls[a].matches(q) != l.negated[k]
		}
		if all {
			return l.allow, i
		}
	}
	return len(lines) > 0 && !lines[len(lines)-1].allow, len(lines)
}

var (
	modelNames   = []string{"example.com", "a.example.com", "b.a.example.com", "test", "x.test", "other.net"}
	modelNets    = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "203.0.113.0/24", "2001:db8::/32", "0.0.0.0/1"}
	modelAddrs   = []string{"10.0.0.1", "10.1.0.1", "10.1.2.3", "203.0.113.9", "198.51.100.1", "2001:db8::1", "2600::1"}
	modelClients = []string{"10.0.0.1", "10.1.0.1", "10.1.2.3", "192.168.0.9", "2001:db8::1"}
	modelPorts   = []string{"80", "443", "8000-8999", "1-1024"}
)

func drawACL(t *rapid.T) modelACL {
	some := func(from []string) []string { return rapid.SliceOfN(rapid.SampledFrom(from), 1, 3).Draw(t, "values") }
	prefixes := func(vs []string) func(netip.Addr) bool {
		return func(a netip.Addr) bool {
			return slices.ContainsFunc(vs, func(v string) bool { return netip.MustParsePrefix(v).Contains(a) })
		}
	}
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		vs := some(modelNets)
		has := prefixes(vs)
		return modelACL{"src " + strings.Join(vs, " "), func(q question) bool { return has(q.client) }}
	case 1:
		vs := some(modelNets)
		has := prefixes(vs)
		return modelACL{"dst " + strings.Join(vs, " "), func(q question) bool { return has(q.addr) }}
	case 2, 3:
		vs := some(modelNames)
		for i := range vs {
			vs[i] = rapid.SampledFrom([]string{"", "."}).Draw(t, "dot") + vs[i]
		}
		return modelACL{"dstdomain -n " + strings.Join(vs, " "), func(q question) bool {
			return q.named() && slices.ContainsFunc(vs, func(v string) bool {
				return q.host == strings.TrimPrefix(v, ".") || v[0] == '.' && strings.HasSuffix(q.host, v)
			})
		}}
	case 4:
		vs := some(modelPorts)
		return modelACL{"port " + strings.Join(vs, " "), func(q question) bool {
			return slices.ContainsFunc(vs, func(v string) bool {
				var from, to int
				if n, _ := fmt.Sscanf(v, "%d-%d", &from, &to); n == 1 {
					to = from
				}
				return from <= q.port && q.port <= to
			})
		}}
	case 5:
		name := rapid.SampledFrom(modelNames).Draw(t, "name")
		return modelACL{"dstdom_regex -n \\." + strings.ReplaceAll(name, ".", `\.`) + "$", func(q question) bool {
			return q.named() && strings.HasSuffix(q.host, "."+name)
		}}
	case 6:
		return modelACL{"method CONNECT", func(q question) bool { return q.connect }}
	}
	return modelACL{"time MTWHF 08:00-18:00", func(q question) bool { return q.extra }}
}

// verdict is what the result says.
func verdict(r *convert.Result, q question) (bool, error) {
	text := r.Rules
	for _, tenant := range r.Tenants {
		if slices.ContainsFunc(tenant.Clients, func(p netip.Prefix) bool { return p.Contains(q.client) }) {
			text = tenant.Rules
			break
		}
	}
	p, err := acl.Parse(text)
	if err != nil {
		return false, err
	}
	h, err := acl.ParseHost(q.host)
	if err != nil {
		return false, err
	}
	p = p.WithGuard(acl.Guard{Mode: acl.GuardOff})
	return p.DecideAddr(acl.Target{Host: h, Port: uint16(q.port)}, q.addr).Verdict == acl.Allow, nil
}

// TestNeverOpens: whatever the lines are, what the converted rules allow squid allows, whether
// the acls match or not that rules cannot say; and where a request is denied that squid allows,
// a finding tells a line, up to the one that decided, that closes.
func TestNeverOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		acls := []modelACL{{"src all", func(question) bool { return true }}}
		for range rapid.IntRange(1, 6).Draw(t, "acls") {
			acls = append(acls, drawACL(t))
		}
		var conf strings.Builder
		for i, a := range acls[1:] {
			kind, values, _ := strings.Cut(a.text, " ")
			fmt.Fprintf(&conf, "acl a%d %s %s\n", i+1, kind, values)
		}
		var lines []modelLine
		for range rapid.IntRange(0, 6).Draw(t, "lines") {
			l := modelLine{allow: rapid.Bool().Draw(t, "allow")}
			words := map[bool]string{true: "allow", false: "deny"}[l.allow]
			for range rapid.IntRange(1, 3).Draw(t, "literals") {
				a, not := rapid.IntRange(0, len(acls)-1).Draw(t, "acl"), rapid.Bool().Draw(t, "not")
				l.acls, l.negated = append(l.acls, a), append(l.negated, not)
				name := fmt.Sprintf("a%d", a)
				if a == 0 {
					name = "all"
				}
				words += " " + map[bool]string{true: "!"}[not] + name
			}
			lines = append(lines, l)
			fmt.Fprintf(&conf, "http_access %s\n", words)
		}
		read := func(string) ([]byte, error) { return []byte(conf.String()), nil }
		r, err := convert.Squid{Files: convert.Files{Read: read}}.Convert("c")
		require.NoError(t, err, conf.String())
		for range 30 {
			q := question{client: netip.MustParseAddr(rapid.SampledFrom(modelClients).Draw(t, "client")), connect: rapid.Bool().Draw(t, "connect"),
				addr: netip.MustParseAddr(rapid.SampledFrom(modelAddrs).Draw(t, "addr")),
				port: rapid.SampledFrom([]int{25, 80, 443, 8080, 9000}).Draw(t, "port"), extra: rapid.Bool().Draw(t, "extra")}
			if q.host = q.addr.String(); rapid.IntRange(0, 3).Draw(t, "literal") > 0 {
				q.host = rapid.SampledFrom(append([]string{"unrelated.org"}, modelNames...)).Draw(t, "host")
			}
			got, err := verdict(r, q)
			require.NoError(t, err)
			want, line := decide(acls, lines, q)
			switch {
			case got && !want:
				t.Fatalf("opened: %+v by line %d of\n%s\nbecame\n%+v", q, line+1, conf.String(), r)
			case want && !got:
				told := slices.ContainsFunc(r.Left, func(f convert.Finding) bool {
					return f.Effect == convert.Closes && f.Line <= len(acls)-1+line+1
				})
				if !told {
					t.Fatalf("closed without a word: %+v by line %d of\n%s\nbecame\n%+v", q, line+1, conf.String(), r)
				}
			}
		}
	})
}
