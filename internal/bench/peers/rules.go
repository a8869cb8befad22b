//go:build linux

package peers

import (
	"fmt"
	"strings"
)

// A rule list has names, domains and addresses by turns, allowed and denied, none of
// which any request of a benchmark matches, but for the last: the loopback network.
// Every line is one that the egress router's script takes too.

// lastRule decides all requests of a benchmark.
const lastRule = "127.0.0.0/8"

// rule is the i-th line of a list, before the last.
func rule(i int) string {
	deny := ""
	if i%2 == 0 {
		deny = "!"
	}
	switch n := i; i % 8 / 2 {
	case 0:
		return fmt.Sprintf("%s*.d%d.example.com", deny, n)
	case 1:
		return fmt.Sprintf("%sh%d.example.org", deny, n)
	case 2:
		return fmt.Sprintf("%s%d.%d.%d.%d", deny, 11+n>>24, n>>16&0xff, n>>8&0xff, n&0xff)
	default:
		return fmt.Sprintf("%s%d.%d.%d.%d/30", deny, 30+n>>22, n>>14&0xff, n>>6&0xff, n<<2&0xff)
	}
}

// RuleText is a list of n rules.
func RuleText(n int) string { return rulesFrom(0, n) }

// rulesFrom is a list of n rules, others for each first.
func rulesFrom(first, n int) string {
	var b strings.Builder
	for i := range n - 1 {
		b.WriteString(rule(first + i))
		b.WriteByte('\n')
	}
	b.WriteString(lastRule + "\n")
	return b.String()
}

// squidRules is the same list as the egress router's script writes it for squid:
// two lines for each.
func squidRules(n int) string {
	var b strings.Builder
	line := func(i int, r string) {
		verdict := "allow"
		r, deny := strings.CutPrefix(r, "!")
		if deny {
			verdict = "deny"
		}
		kind := "dst"
		if strings.Contains(r, "example") {
			kind, r = "dstdomain", strings.TrimPrefix(r, "*")
		}
		fmt.Fprintf(&b, "acl dest%d %s %s\nhttp_access %s dest%d\n", i+1, kind, r, verdict, i+1)
	}
	for i := range n - 1 {
		line(i, rule(i))
	}
	line(n-1, lastRule)
	b.WriteString("http_access deny all\n")
	return b.String()
}
