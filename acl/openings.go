package acl

import (
	"fmt"
	"slices"
	"strings"
)

// warnOfLate warns of deny rules that come too late to close anything.
func (b *builder) warnOfLate() {
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
