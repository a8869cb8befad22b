package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/sluiceproxy/sluice/acl"
)

// Openings finds the rules that open more than was meant, as far as one can tell from each alone. It
// costs little, and is part of each start.
func Openings(p *acl.Policy) (out []Finding) {
	for r := range p.Rules() {
		if !r.Expired {
			out = append(out, openings(&r)...)
		}
	}
	return out
}

func openings(r *acl.Rule) []Finding {
	msg, name, addr := "", "", somewhere
	if r.Form == acl.FormAddr {
		msg, addr = likePort(r), r.Prefix.Addr()
	} else if !r.Deny && (r.Form == acl.FormDomain || r.Form == acl.FormGlob) {
		msg, name = tooWide(r)
	}
	if msg == "" {
		return nil
	}
	port := uint16(443)
	if r.Ports != nil {
		port = usualPort(int32(r.Ports[0].From), int32(r.Ports[0].To))
	}
	t := Target{Addr: addr, Target: acl.Target{Host: acl.HostFromAddr(addr), Port: port}}
	if name != "" {
		t.Host, _ = acl.ParseHost(name)
	}
	return []Finding{{Kind: LookAlike, Rule: *r, Target: t, Msg: "'" + r.Text + "' " + msg, Opens: true}}
}

// publicSuffix reports whether strangers register names right below s: by the Public Suffix List,
// with its private section.
func publicSuffix(s string) bool {
	suffix, icann := publicsuffix.PublicSuffix(s)
	return suffix == s && (icann || strings.IndexByte(s, '.') >= 0)
}

// tooWide says what a pattern allows that its writer hardly meant, and a name that shows it.
func tooWide(r *acl.Rule) (msg, name string) {
	pattern := r.Name
	if r.Form == acl.FormDomain {
		pattern = "*." + pattern
	}
	first, rest, _ := strings.Cut(pattern, ".")
	last := pattern[strings.LastIndexByte(pattern, '.')+1:]
	// A name that the pattern matches.
	name = strings.ReplaceAll(pattern, "*", "x")
	bare := strings.Trim(strings.ReplaceAll(pattern, "*.", ""), "*")
	switch suffix := newGlob(pattern, 0).suffix(); {
	case rest == "":
		return "", "" // one label: no name that anybody could register
	case strings.IndexByte(last, '*') >= 0:
		return "allows names under every top-level domain, whoever registers them; write each name in full", name
	case first == "*" && r.Form == acl.FormDomain && publicSuffix(r.Name):
		suffix = r.Name
		return fmt.Sprintf("allows every name under %s, whoever registers it; write the domains that are meant, such as *.example.%[1]s", suffix), name
	case publicSuffix(suffix) && bare == suffix:
		return fmt.Sprintf("allows every name under %s, whoever registers it; write the domains that are meant, such as *.example.%[1]s", suffix), name
	case first[0] == '*' && len(first) > 1 && strings.IndexByte(first[1:], '*') < 0 && publicSuffix(rest):
		return fmt.Sprintf("allows bad%s.%s too, which anybody can register; write *.%s.%[2]s for the domain and every name below it",
			first[1:], rest, strings.TrimLeft(first[1:], "-_")), "bad" + first[1:] + "." + rest
	}
	return "", ""
}

// likePort tells of an IPv6 address whose last group was meant as a port.
func likePort(r *acl.Rule) string {
	body := strings.TrimLeft(strings.TrimPrefix(r.Text, "!"), " \t")
	at := strings.LastIndexByte(body, ':')
	if at < 0 || body[0] == '[' || strings.IndexByte(body, '/') >= 0 || !slices.Contains(commonPorts, body[at+1:]) {
		return ""
	}
	if a, err := netip.ParseAddr(body[:at]); err != nil || !a.Is6() {
		return ""
	}
	return fmt.Sprintf("is the address ending in %s, on any port; if that is a port, write brackets: [%s]:%[1]s", body[at+1:], body[:at])
}

// commonPorts are those that people write behind hosts.
var commonPorts = strings.Fields("21 22 25 53 80 389 443 465 587 636 853 993 1433 1521 3000 3128 3306 3389 " +
	"5000 5432 5671 5672 5900 6379 6443 8000 8080 8081 8443 8888 9000 9042 9090 9092 9200 9443 9999")

// odd tells of what may be meant otherwise, and opens nothing.
func odd(r *acl.Rule) (out []Finding) {
	switch {
	case r.Form == acl.FormName && strings.IndexByte(r.Name, '.') < 0:
		out = append(out, Finding{Kind: SingleLabel, Rule: *r, Msg: fmt.Sprintf(
			"'%s' is a name of one label, and matches only that; if a domain is meant, write it in full", r.Text)})
	case r.Form == acl.FormAddr:
		body := strings.Trim(strings.TrimLeft(strings.TrimPrefix(r.Text, "!"), " \t"), "[")
		body, _, _ = strings.Cut(body, "]")
		if r.Prefix.Addr().Is4() && strings.Count(body, ":") == 1 {
			body, _, _ = strings.Cut(body, ":")
		}
		if p, err := netip.ParsePrefix(body); err == nil && p.Masked().Addr() != p.Addr() {
			out = append(out, Finding{Kind: HostBits, Rule: *r, Msg: fmt.Sprintf("'%s' has host bits set, and is read as %s", r.Text, r.Prefix)})
		}
	}
	return out
}
