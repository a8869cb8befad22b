package convert

import (
	"regexp"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// The regular expressions that say a name, or a name and those below it. The middle has
// letters, digits, - and _, and dots with a back-slash.
var (
	wholeName  = regexp.MustCompile(`^\^([a-zA-Z0-9_-]+(?:\\\.[a-zA-Z0-9_-]+)*)\$$`)
	nameAndSub = regexp.MustCompile(`^(?:\(\^\|\\\.\)|\(\\\.\|\^\)|\(\^\|\.\*\\\.\)|\^\(\.\*\\\.\)\?|\^\(\.\+\\\.\)\?)([a-zA-Z0-9_-]+(?:\\\.[a-zA-Z0-9_-]+)*)\$$`)
	onlyBelow  = regexp.MustCompile(`^(?:\^\.\*|\^\.\+|\.\*)?\\\.([a-zA-Z0-9_-]+(?:\\\.[a-zA-Z0-9_-]+)*)\$$`)
	urlOfHost  = regexp.MustCompile(`^\^https?\??://([a-zA-Z0-9_-]+(?:\\\.[a-zA-Z0-9_-]+)*)/`)
)

const notPlain = "a regular expression that is not anchored and plain: write the names that it is for"

// plainRegex is a regular expression on the host, which squid has in lower case.
func plainRegex(v string, insensitive bool) predicate {
	for _, r := range []struct {
		is  *regexp.Regexp
		all func(name string) []term
	}{
		{wholeName, func(n string) []term { return []term{{form: form{kind: oneName, name: n}, ports: allPorts}} }},
		{nameAndSub, func(n string) []term { return []term{{form: form{kind: domain, name: n}, ports: allPorts}} }},
		{onlyBelow, func(n string) []term { return []term{strictlyBelow(n)} }},
	} {
		m := r.is.FindStringSubmatch(v)
		if m == nil {
			continue
		}
		name := strings.ReplaceAll(m[1], `\.`, ".")
		if name != strings.ToLower(name) {
			if !insensitive {
				return never // no host has a capital
			}
			name = strings.ToLower(name)
		}
		if h, err := acl.ParseHost(name); err != nil || !h.IsName() || h.Name() != name {
			return unknown(notPlain)
		}
		return exactly(r.all(name))
	}
	return unknown(notPlain)
}

// strictlyBelow is the names below a name.
func strictlyBelow(name string) term {
	return term{form: form{kind: domain, name: name}, ports: allPorts, not: []form{{kind: oneName, name: name}}}
}

// hostOfURL is a regular expression on a whole URL: it matches at most the host that it begins
// with.
func hostOfURL(v string) predicate {
	m := urlOfHost.FindStringSubmatch(v)
	if m == nil {
		return unknown(cannot["url_regex"])
	}
	name := strings.ToLower(strings.ReplaceAll(m[1], `\.`, "."))
	if h, err := acl.ParseHost(name); err != nil || !h.IsName() || h.Name() != name {
		return unknown(cannot["url_regex"])
	}
	return predicate{may: []term{{form: form{kind: oneName, name: name}, ports: allPorts}}, why: cannot["url_regex"]}
}
