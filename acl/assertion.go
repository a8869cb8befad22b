package acl

import (
	"net/netip"
	"strings"
)

// An Assertion is a line `#@ assert allow TARGET…` or `#@ assert deny TARGET…`: what must hold
// for the whole list. Package acl/audit decides whether it does.
type Assertion struct {
	Source  string // of its text, as of a [Problem]
	Line    int    // in its text, from 1
	Text    string // as written, from "assert" on
	Allow   bool   // else deny
	Targets []AssertTarget
}

// An AssertTarget is what an assertion is about. It is written as the target of a request, as
// `*.name`, as a prefix, or as `any`, with or without ports. Without, an assertion to allow is for
// port 443 as `sluice acl test` has it, and one to deny for every port: who asserts that a
// network is denied means all of it.
type AssertTarget struct {
	Text   string // as written
	Form   Form   // FormStar is any
	Prefix netip.Prefix
	Name   string
	Ports  []PortRange  // nil is any port
	Addrs  []netip.Addr // given behind `=`; nil is what the kind of the assertion means
}

// Assertions returns the assertions of the text, in its order. The slice is the policy's own,
// and must not be changed.
func (p *Policy) Assertions() []Assertion {
	if p == nil {
		return nil
	}
	return p.set.asserts
}

// readAssert reads what stands behind `#@ assert`.
func (b *builder) readAssert(line int, comment, rest string) {
	if at := strings.Index(rest, " #"); at >= 0 {
		rest = rest[:at]
	}
	words := strings.Fields(rest)
	a := Assertion{Source: b.source, Line: line, Text: "assert " + strings.Join(words, " ")}
	if len(words) < 2 || words[0] != "allow" && words[0] != "deny" {
		b.wrong(line, comment, "write assert allow TARGET, or assert deny TARGET")
		return
	}
	a.Allow = words[0] == "allow"
	for _, w := range words[1:] {
		t, msg := b.readAssertTarget(w, a.Allow)
		if msg != "" {
			b.wrong(line, comment, "target "+quote(w)+": "+msg)
			return
		}
		a.Targets = append(a.Targets, t)
	}
	b.set.asserts = append(b.set.asserts, a)
}

// schemes are those that a target may be a URL of.
var schemes = map[string]uint16{"http": 80, "https": 443, "ws": 80, "wss": 443}

func (b *builder) readAssertTarget(s string, allow bool) (t AssertTarget, msg string) {
	t.Text = s
	if allow {
		t.Ports = []PortRange{{443, 443}}
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		port := schemes[strings.ToLower(scheme)]
		if port == 0 {
			return t, "the scheme is none of http, https, ws, wss"
		}
		t.Ports = []PortRange{{port, port}}
		s, _, _ = strings.Cut(rest, "/")
	}
	host, addrs, given := strings.Cut(s, "=")
	for _, a := range strings.Split(addrs, ",") {
		if !given {
			break
		}
		addr, err := netip.ParseAddr(a)
		if err != nil || addr.Zone() != "" {
			return t, quote(a) + " is no IP address"
		}
		t.Addrs = append(t.Addrs, addr.Unmap())
	}
	if host == "" {
		return t, msgEmptyHost
	}
	if name, ports, _ := strings.Cut(host, ":"); name == "any" {
		host = strings.TrimSuffix("*:"+ports, ":")
	} else if name == "*" {
		return t, "write any for everything"
	}
	if host[0] == '!' {
		return t, "a `!` has no meaning here; write assert deny"
	}
	f, msg := b.reader.read(host)
	switch {
	case msg != "":
		return t, msg
	case f.masked:
		return t, "host bits are set; write " + f.prefix.String()
	case given && f.kind == formAddr:
		return t, "an address has no addresses of its own; leave the = away"
	}
	t.Form, t.Prefix, t.Name = Form(f.kind), f.prefix, f.name
	if f.ports != nil || strings.HasSuffix(host, ":1-65535") {
		t.Ports = exportPorts(f.ports)
	}
	return t, ""
}
