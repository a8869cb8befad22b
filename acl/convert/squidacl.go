package convert

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// squidACL is an acl of a squid.conf.
type squidACL struct {
	place
	name, kind string
	predicate
	// Of src only: it matches these clients, and nothing else of the request counts.
	clients  []netip.Prefix
	everyone bool
}

// builtin are the acls that squid has of itself.
func builtin(connect predicate) map[string]*squidACL {
	src := func(ps ...string) *squidACL {
		a := &squidACL{kind: "src"}
		for _, p := range ps {
			a.clients = append(a.clients, netip.MustParsePrefix(p))
		}
		return a
	}
	dst := func(ps ...string) *squidACL {
		var ts []term
		for _, p := range ps {
			ts = append(ts, term{form: form{kind: network, prefix: netip.MustParsePrefix(p)}, ports: allPorts})
		}
		return &squidACL{kind: "dst", predicate: exactly(ts)}
	}
	return map[string]*squidACL{
		"all":          {kind: "src", everyone: true},
		"localhost":    src("127.0.0.1/32", "::1/128"),
		"to_localhost": dst("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"),
		"to_linklocal": dst("169.254.0.0/16", "fe80::/10"),
		"manager":      {kind: "manager", predicate: never},
		"CONNECT":      {kind: "method", predicate: connect},
	}
}

// cannot says of a kind of acl why rules cannot say it.
var cannot = map[string]string{
	"proxy_auth":       "users are told by tenants: authenticate and usersFile (docs/tenants.md)",
	"proxy_auth_regex": "users are told by tenants: authenticate and usersFile (docs/tenants.md)",
	"time":             "rules know no time of day",
	"url_regex":        "rules know hosts and ports, not URLs",
	"urlpath_regex":    "rules know hosts and ports, not paths",
	"urllogin":         "rules know hosts and ports, not URLs",
	"method":           "rules hold for all methods alike",
	"proto":            "rules know no protocols",
	"browser":          "rules know no headers", "req_header": "rules know no headers", "referer_regex": "rules know no headers",
	"maxconn": "limits are those of tenants (docs/tenants.md)", "max_user_ip": "limits are those of tenants (docs/tenants.md)",
	"external": "nothing outside is asked", "note": "nothing outside is asked", "annotate_transaction": "nothing is annotated",
	"arp": "clients are told by address", "eui64": "clients are told by address", "srcdomain": "clients are told by address, not by the name that it has",
	"srcdom_regex": "clients are told by address, not by the name that it has",
	"myip":         "rules do not depend on where a client comes in", "localip": "rules do not depend on where a client comes in",
	"myport": "rules do not depend on where a client comes in", "localport": "rules do not depend on where a client comes in", "myportname": "rules do not depend on where a client comes in",
	"ssl::server_name": "the name that TLS names is that of the CONNECT; nothing is looked into", "server_cert_fingerprint": "rules know nothing of certificates",
	"random": "rules do not roll dice",
	"any-of": "acls of acls are not read: write the lines out", "all-of": "acls of acls are not read: write the lines out",
}

// readACL reads one acl line into a, which an earlier line may have begun.
func (s *squidReader) readACL(d directive, a *squidACL) {
	kind, values := d.words[2], d.words[3:]
	insensitive, lookups := false, true
	for len(values) > 0 && strings.HasPrefix(values[0], "-") && len(values[0]) > 1 {
		insensitive = insensitive || values[0] == "-i"
		lookups = lookups && values[0] != "-n"
		done := values[0] == "--"
		if values = values[1:]; done {
			break
		}
	}
	values = s.values(d, values)
	switch kind {
	case "src":
		for _, v := range values {
			s.source(d, a, v)
		}
	case "dst":
		s.lookups[a] = true
		for _, v := range values {
			a.network(v)
		}
	case "dstdomain":
		s.pointers[a] = s.pointers[a] || lookups
		for _, v := range values {
			a.add(s.domain(d, v))
		}
	case "dstdom_regex":
		s.pointers[a] = s.pointers[a] || lookups
		for _, v := range values {
			if v == "-i" || v == "+i" {
				insensitive = v == "-i"
				continue
			}
			a.add(plainRegex(v, insensitive))
		}
	case "url_regex":
		for _, v := range values {
			if v != "-i" && v != "+i" {
				a.add(hostOfURL(v))
			}
		}
	case "port":
		s.ports(d, a, values)
	case "method":
		for _, v := range values {
			s.method(d, a, v)
		}
	case "proto":
		for _, v := range values {
			if p := strings.ToLower(v); p != "ftp" && p != "cache_object" && p != "gopher" && p != "wais" && p != "urn" && p != "whois" {
				a.add(unknown(cannot[kind]))
			} // else there is no such request here
		}
	default:
		a.add(unknown(cmp.Or(cannot[kind], "an acl of this kind ("+kind+") has no counterpart")))
	}
}

// network adds a value of "dst".
func (a *squidACL) network(v string) {
	ps, all, why := addresses(v)
	if why != "" {
		a.add(unknown(why))
	} else if all {
		a.add(always1)
	}
	for _, p := range ps {
		a.add(exactly([]term{{form: form{kind: network, prefix: p}, ports: allPorts}}))
	}
}

// ports adds the values of "port".
func (s *squidReader) ports(d directive, a *squidACL, values []string) {
	for _, v := range values {
		from, to, ok := portsIn(v)
		if !ok {
			s.problems.add(d.place, "%q is no port, nor a range of ports", v)
			return
		}
		a.add(exactly(onPorts(newPorts(portRange{from, to}))))
	}
}

// method adds a value of "method".
func (s *squidReader) method(d directive, a *squidACL, v string) {
	switch v {
	case "CONNECT":
		a.add(s.connect)
	case "PURGE":
		s.found.add(d.place, Differs, "PURGE is no word to a cache here: it passes as other methods do")
	default:
		a.add(unknown(cannot["method"]))
	}
}

// add makes a match what p matches as well.
func (a *squidACL) add(p predicate) {
	a.must, a.may = append(a.must, p.must...), append(a.may, p.may...)
	if p.why != "" {
		a.why = p.why
	}
}

// values are those of an acl line, and those in the files that it names.
func (s *squidReader) values(d directive, words []string) (all []string) {
	for _, w := range words {
		path, quoted := strings.CutPrefix(w, `"`)
		if !quoted {
			if strings.HasPrefix(w, "parameters(") {
				s.problems.add(d.place, "%s is not read: write the file's name in quotes", w)
				continue
			}
			all = append(all, w)
			continue
		}
		path, ok := strings.CutSuffix(path, `"`)
		if !ok {
			s.problems.add(d.place, "%s: a file's name ends in a quote, and has no space", w)
			continue
		}
		text, ok := readFile(d.place, path, s.Files, &s.problems)
		if !ok {
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			line, _, _ = strings.Cut(line, " #")
			line = strings.TrimSpace(line)
			if strings.ContainsAny(line, " \t") {
				s.problems.add(place{path, i + 1, line}, "a line of an acl's file has one value")
				continue
			}
			all = append(all, line)
		}
	}
	return all
}

// domain is a value of dstdomain.
func (s *squidReader) domain(d directive, v string) predicate {
	name, sub := strings.CutPrefix(strings.ToLower(v), ".")
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && !sub {
		// It matches the address in a URL, and no name that leads there.
		return predicate{may: []term{{form: form{kind: network, prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, ports: allPorts}},
			why: "an address as a dstdomain: rules for it would hold for names that lead there too"}
	}
	if h, err := acl.ParseHost(name); err != nil || !h.IsName() || h.Name() != name {
		s.found.add(d.place, None, "%q matches no host of a request, in squid as here%s", v, starred(v))
		return never
	}
	if sub {
		return exactly([]term{{form: form{kind: domain, name: name}, ports: allPorts}})
	}
	return exactly([]term{{form: form{kind: oneName, name: name}, ports: allPorts}})
}

func starred(v string) string {
	if strings.Contains(v, "*") {
		return ` (its * is a literal there; for all names below write it with a leading dot)`
	}
	return ""
}

// source is a value of src.
func (s *squidReader) source(d directive, a *squidACL, v string) {
	ps, all, why := addresses(v)
	a.everyone = a.everyone || all
	a.clients = append(a.clients, ps...)
	if why != "" {
		a.why = why
		a.may = everywhere
	}
}

// matches says what of a region's clients the acl matches: all, none, or it depends.
func (a *squidACL) matches(r region) predicate {
	if a.kind != "src" {
		return a.predicate
	}
	inside := func(p netip.Prefix) bool {
		return r.prefix.IsValid() && p.Bits() <= r.prefix.Bits() && p.Overlaps(r.prefix)
	}
	switch {
	case a.everyone, slices.ContainsFunc(a.clients, inside):
		return always1
	case a.may != nil:
		return unknown(a.why)
	}
	return never
}
