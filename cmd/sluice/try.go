package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// maxTried bounds how many rules are looked at for an example.
const maxTried = 1000

// somewhere is an address as names of the Internet have them.
var somewhere = netip.AddrFrom4([4]byte{93, 184, 215, 14})

// allowsNothing reports whether the rules deny every target.
func allowsNothing(p *acl.Policy) bool {
	for r := range p.Rules() {
		if !r.Deny && !r.Expired {
			return false
		}
	}
	return true
}

// tryURL is a URL that the rules do not deny, for a person to try; "" when none is
// plain: example.com, else what the first allow rules name.
func tryURL(p *acl.Policy) string {
	tried := 0
	if url := urlOf(p, "example.com"); url != "" {
		return url
	}
	for r := range p.Rules() {
		if tried++; tried > maxTried {
			break
		}
		if r.Deny || r.Expired {
			continue
		}
		if url := urlOf(p, strings.TrimPrefix(r.Text, "*.")); url != "" {
			return url
		}
	}
	return ""
}

// urlOf is the URL of a rule's destination, HOST or HOST:PORT, if that is one host
// that the rules may allow.
func urlOf(p *acl.Policy, dest string) string {
	if a, err := netip.ParseAddr(dest); err == nil && a.Is6() {
		dest = "[" + dest + "]"
	}
	t, err := acl.ParseTargetDefault(dest, 443)
	if err != nil {
		return ""
	}
	host, addr := t.Host.String(), t.Host.Addr()
	if t.Host.IsName() {
		addr = somewhere
	} else if addr.Is6() {
		host = "[" + addr.String() + "]"
	}
	if p.DecideAddr(t, addr).Verdict != acl.Allow {
		return ""
	}
	switch t.Port {
	case 443:
		return "https://" + host + "/"
	case 80:
		return "http://" + host + "/"
	}
	return "http://" + host + ":" + strconv.Itoa(int(t.Port)) + "/"
}
