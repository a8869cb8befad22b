package acl

import (
	"fmt"
	"slices"
	"strings"
)

// warnOpenings warns of rules that open more than they seem to, and of deny rules that
// come too late to close anything.
func (b *builder) warnOpenings() {
	var reader formReader
	type place struct {
		source string
		line   int
	}
	dead := map[place]bool{} // lines that are warned of already
	for _, w := range b.warnings {
		dead[place{w.Source, w.Line}] = true
	}
	for i := range b.set.rules {
		r := &b.set.rules[i]
		if b.set.expired(ruleNo(i)) {
			continue
		}
		text := r.text(b.set)
		f, _ := reader.read(text) // it was good
		f.ports = slices.Clone(f.ports)
		if msg := f.lookAlike(text); msg != "" {
			b.warn(ruleNo(i), quote(text)+" "+msg)
		}
		if f.deny && !dead[place{b.set.source(r), int(r.line)}] {
			b.warnLate(ruleNo(i), &f)
		}
	}
}

// warnLate warns of the deny rule f when one allow rule in front of it covers all of it.
func (b *builder) warnLate(no ruleNo, f *form) {
	s, port := b.set, uint16(1)
	if f.ports != nil {
		port = f.ports[0].from
	}
	by := none
	switch f.kind {
	case formAddr:
		n, _ := s.addrs.table.Get(f.prefix)
		by = s.addrs.matching(s.steps, n, port)
	case formName, formDomain:
		by = s.names.earliest(s.steps, f.name, port, none)
	case formGlob:
		by = s.names.earliest(s.steps, literalSuffix(f.name), port, none)
	}
	if by >= no || s.rules[by].deny() {
		return
	}
	var reader formReader
	a, _ := reader.read(s.rules[by].text(s))
	if f.kind != formName && f.kind != formAddr && (a.kind != formDomain || !belowOrSame(strings.TrimPrefix(f.name, "*."), a.name)) {
		return // it covers a part
	}
	if !coversPorts(a.ports, f.ports) {
		return
	}
	b.warn(no, fmt.Sprintf("%s comes too late: %s, %s, allows all of it before; write it in front of that line",
		quote(s.rules[no].text(s)), s.place(by, no), quote(s.rules[by].text(s))))
}

// belowOrSame reports whether name is domain, or below it.
func belowOrSame(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// coversPorts reports whether each of the ports inner is one of outer; nil is any.
func coversPorts(outer, inner []portRange) bool {
	if outer == nil {
		return true
	}
	if inner == nil {
		return false
	}
	for _, in := range inner {
		if !slices.ContainsFunc(outer, func(o portRange) bool { return o.from <= in.from && in.to <= o.to }) {
			return false
		}
	}
	return true
}

// lookAlike says what a rule opens that its writer hardly meant, and what to write
// instead; "" if nothing.
func (f *form) lookAlike(text string) string {
	if f.kind == formAddr {
		return f.likePort(text)
	}
	if f.deny || f.kind != formDomain && f.kind != formGlob {
		return ""
	}
	name := f.name
	if f.kind == formDomain {
		name = "*." + name
	}
	first, rest, _ := strings.Cut(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case rest == "":
		return "" // one label: no name that anybody could register
	case strings.IndexByte(last, '*') >= 0:
		return "allows names under every top-level domain, whoever registers them; write each name in full"
	case strings.Trim(strings.ReplaceAll(name, "*.", ""), "*") == rest && first == "*" && publicSuffix(rest),
		publicSuffix(literalSuffix(name)) && strings.Trim(strings.TrimSuffix(name, literalSuffix(name)), "*.") == "":
		return fmt.Sprintf("allows every name under %s, whoever registers it; write the domains that are meant, such as *.example.%[1]s", literalSuffix(name))
	case first[0] == '*' && len(first) > 1 && strings.IndexByte(first[1:], '*') < 0 && publicSuffix(rest):
		bare := strings.TrimLeft(first[1:], "-_")
		return fmt.Sprintf("allows bad%s.%s too, which anybody can register; write *.%s.%[2]s for the domain and every name below it", first[1:], rest, bare)
	}
	return ""
}

// likePort tells of an IPv6 address whose last group was meant as a port.
func (f *form) likePort(text string) string {
	body := strings.TrimLeft(strings.TrimPrefix(text, "!"), blanks)
	at := strings.LastIndexByte(body, ':')
	if at < 0 || body[0] == '[' || strings.IndexByte(body, '/') >= 0 || !slices.Contains(commonPorts, body[at+1:]) {
		return ""
	}
	if _, msg := parseIPv6(body[:at]); msg != "" {
		return ""
	}
	return fmt.Sprintf("is the address ending in %s, on any port; if that is a port, write brackets: [%s]:%[1]s", body[at+1:], body[:at])
}

// commonPorts are those that people write behind hosts.
var commonPorts = strings.Fields("21 22 25 53 80 389 443 465 587 636 853 993 1433 1521 3000 3128 3306 3389 " +
	"5000 5432 5671 5672 5900 6379 6443 8000 8080 8081 8443 8888 9000 9042 9090 9092 9200 9443 9999")

// publicSuffix reports whether anybody can register a name right below s: for top-level
// domains that are well known, and what many countries have below theirs. It knows too
// few rather than too many: names inside of an organisation must not alarm.
func publicSuffix(s string) bool {
	second, top, two := strings.Cut(s, ".")
	if !two {
		return len(s) == 2 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == "" || slices.Contains(topLevel, s)
	}
	return len(top) == 2 && slices.Contains(secondLevel, second)
}

var (
	topLevel = strings.Fields("com net org info biz edu gov mil int name pro mobi asia app dev cloud online site " +
		"xyz top shop store tech live club space website click link icu vip page blog work life world")
	secondLevel = strings.Fields("co com net org gov edu ac or ne go ltd plc nom gob")
)
