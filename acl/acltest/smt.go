package acltest

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// smtLabels is how many labels a name has at most in what SMT writes: two more than any pattern of the
// generators, since a name with more is like one of those.
const smtLabels = 6

// SMTPrelude declares, in SMT-LIB 2.6, a target: whether it is a literal (lit), else a name of nl labels, l0
// being the last; an address a, IPv4 in its last 32 bits when v4; and a port. Lists are judged
// on it with the definitions that [Reference.SMT] writes.
func SMTPrelude() string {
	var b strings.Builder
	b.WriteString(`(set-logic ALL)
(define-fun c () RegLan (re.union (re.range "a" "z") (re.range "0" "9") (str.to_re "-") (str.to_re "_")))
(define-fun label () RegLan (re.+ c))
(define-fun number () RegLan (re.union (re.+ (re.range "0" "9")) (re.++ (str.to_re "0x") (re.* (re.union (re.range "0" "9") (re.range "a" "f"))))))
(declare-const lit Bool)
(declare-const v4 Bool)
(declare-const a (_ BitVec 128))
(declare-const port Int)
(declare-const nl Int)
(assert (and (>= port 1) (<= port 65535) (>= nl 1)))
(assert (=> v4 (= ((_ extract 127 32) a) (_ bv0 96))))
(assert (=> (not v4) (not (= ((_ extract 127 32) a) #x00000000000000000000ffff))))
`)
	fmt.Fprintf(&b, "(assert (<= nl %d))\n", smtLabels)
	for i := range smtLabels {
		fmt.Fprintf(&b, "(declare-const l%d String)\n(assert (str.in_re l%d label))\n", i, i)
	}
	b.WriteString("(assert (str.in_re l0 (re.comp number)))\n")
	for i, l := range layouts {
		fmt.Fprintf(&b, "(define-fun in%d () (_ BitVec 32) %s)\n(define-fun has%d () Bool %s)\n", i, l.smtValue(), i, l.smtHas(fmt.Sprintf("in%d", i)))
	}
	return b.String()
}

// smtNibble is a digit of the address.
func smtNibble(i int) string { return fmt.Sprintf("((_ extract %d %d) a)", 127-4*i, 124-4*i) }

// smtValue is the IPv4 address that stands in a.
func (l layout) smtValue() string {
	out := "(concat"
	for i, c := range []byte(l) {
		switch c {
		case 'v':
			out += " " + smtNibble(i)
		case 'i':
			out += " (bvnot " + smtNibble(i) + ")"
		}
	}
	return out + ")"
}

// smtHas is whether a has the layout.
func (l layout) smtHas(value string) string {
	out := "(and (not v4) (not (= a (_ bv0 128))) (not (= a (_ bv1 128)))"
	for i, c := range []byte(l) {
		if c != 'v' && c != 'i' && c != '.' {
			out += fmt.Sprintf(" (= %s #x%c)", smtNibble(i), c)
		}
	}
	if l.misread(netip.IPv4Unspecified()) {
		out += fmt.Sprintf(" (not (= ((_ extract 31 24) %s) #x00))", value)
	}
	return out + ")"
}

// SMT is whether the list allows the target: a term for (assert …).
func (r *Reference) SMT() string {
	guarded := r.smtGuarded()
	out := "false"
	for i := len(r.rules) - 1; i >= 0; i-- {
		u := &r.rules[i]
		verdict := "(not " + guarded + ")"
		if u.deny {
			verdict = "false"
		}
		out = fmt.Sprintf("(ite (and %s %s) %s %s)", u.smtPort(), u.smtMatches(), verdict, out)
	}
	return out
}

func (u *rule) smtPort() string {
	if u.ports == nil {
		return "true"
	}
	out := "(or"
	for _, p := range u.ports {
		out += fmt.Sprintf(" (and (>= port %d) (<= port %d))", p[0], p[1])
	}
	return out + ")"
}

func (u *rule) smtMatches() string {
	if u.name == nil {
		out := "(or " + smtIn(u.prefix)
		for i := range layouts {
			if u.deny && u.prefix.Addr().Is4() {
				out += fmt.Sprintf(" (and has%d %s)", i, smtPrefix(fmt.Sprintf("in%d", i), 32, u.prefix))
			}
		}
		return out + ")"
	}
	if u.text == "*" {
		return "true"
	}
	pattern, below := strings.CutPrefix(u.text, "*.")
	labels := strings.Split(pattern, ".")
	how := "="
	if below {
		how = ">="
	}
	out := fmt.Sprintf("(and (not lit) (%s nl %d)", how, len(labels))
	for i, l := range labels {
		v := fmt.Sprintf("l%d", len(labels)-1-i)
		switch parts := strings.Split(l, "*"); {
		case l == "*":
		case len(parts) == 1:
			out += fmt.Sprintf(" (= %s %q)", v, l)
		default:
			for i := range parts {
				parts[i] = fmt.Sprintf("(str.to_re %q)", parts[i])
			}
			out += fmt.Sprintf(" (str.in_re %s (re.++ %s))", v, strings.Join(parts, " (re.* c) "))
		}
	}
	return out + ")"
}

// smtIn is whether the address is in a prefix.
func smtIn(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "(and v4 " + smtPrefix("((_ extract 31 0) a)", 32, p) + ")"
	}
	return "(and (not v4) " + smtPrefix("a", 128, p) + ")"
}

func smtPrefix(v string, size int, p netip.Prefix) string {
	if p.Bits() == 0 {
		return "true"
	}
	bits := ""
	for _, b := range p.Addr().AsSlice() {
		bits += fmt.Sprintf("%08b", b)
	}
	return fmt.Sprintf("(= ((_ extract %d %d) %s) #b%s)", size-1, size-p.Bits(), v, bits[:p.Bits()])
}

// smtGuarded is whether the guard denies the target.
func (r *Reference) smtGuarded() string {
	out := "(or false"
	for i := range r.ranges {
		g := &r.ranges[i]
		locked := func(need int, inner string) string {
			term := "(and true"
			for j := range r.rules {
				u := &r.rules[j]
				if u.deny || u.name != nil {
					continue
				}
				if g.prefix.Contains(u.prefix.Addr()) && u.prefix.Bits() >= g.prefix.Bits() {
					in := smtIn(u.prefix)
					if inner != "" {
						in = smtPrefix(inner, 32, u.prefix)
					}
					term += fmt.Sprintf(" (not (and %s %s))", u.smtPort(), in)
				}
				if inner != "" && u.prefix.Addr().Is6() && u.prefix.Bits() >= need {
					term += fmt.Sprintf(" (not (and %s %s))", u.smtPort(), smtIn(u.prefix))
				}
			}
			return term + ")"
		}
		out += fmt.Sprintf(" (and %s %s %s)", smtIn(g.prefix), smtExempt("", g), locked(0, ""))
		if !g.prefix.Addr().Is4() {
			continue
		}
		for k, l := range layouts {
			in := fmt.Sprintf("in%d", k)
			out += fmt.Sprintf(" (and has%d %s %s %s)", k, smtPrefix(in, 32, g.prefix), smtExempt(in, g), locked(l.needs(g.prefix.Bits()), in))
		}
	}
	return out + ")"
}

func smtExempt(inner string, g *guarded) string {
	out := "(and true"
	for _, e := range g.exempted {
		in := smtIn(e)
		if inner != "" {
			in = smtPrefix(inner, 32, e)
		}
		out += " (not " + in + ")"
	}
	return out + ")"
}

// SMTAddr reads an address as z3 prints a bit vector of 128: #x and digits.
func SMTAddr(s string, four bool) (netip.Addr, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "#x"))
	if err != nil {
		return netip.Addr{}, err
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q is no address", s)
	}
	if four {
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	return a, nil
}
