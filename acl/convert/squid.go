package convert

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Squid says how a squid.conf is converted.
type Squid struct {
	Files
	// ConnectPorts are the ports, as "443" or "443,8443-8449", that are taken to be reached by
	// CONNECT, and by nothing else; all others by other methods only. Rules know no methods, so
	// with "", the default, an acl of a method is unknown. Findings tell what is opened by it.
	ConnectPorts string
	// Ignore are lines, "FILE:LINE", that are read as if they were not there.
	Ignore []string
}

// Convert reads a squid.conf at path. The error is of what squid would not start with, or of
// what is not understood at all.
func (c Squid) Convert(path string) (*Result, error) {
	s := &squidReader{Squid: c, pointers: map[*squidACL]bool{}, lookups: map[*squidACL]bool{}}
	if err := s.connectPorts(); err != nil {
		return nil, err
	}
	text, ok := readFile(place{file: path}, path, c.Files, &s.problems)
	if ok {
		s.read(squidLines(path, text, c.Files, 0, &s.problems))
	}
	if err := s.problems.err(); err != nil {
		return nil, err
	}
	r, err := s.convert()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// access is a line of an access list.
type access struct {
	place
	allow    bool
	source   netip.Addr // of tcp_outgoing_address
	literals []literal
}

// literal is an acl of a line, or its opposite.
type literal struct {
	*squidACL
	negated bool
}

type squidReader struct {
	Squid
	problems problems
	found    findings
	connect  predicate
	acls     map[string]*squidACL
	lists    map[string][]access // by directive
	pointers map[*squidACL]bool  // acls that look up the names of addresses
	lookups  map[*squidACL]bool  // acls that look up the addresses of names
}

func (s *squidReader) connectPorts() error {
	s.connect = unknown("rules hold for all methods alike: for those on CONNECT say which ports tunnels have (--connect-ports 443)")
	if s.ConnectPorts == "" {
		return nil
	}
	var all []portRange
	for _, w := range strings.Split(s.ConnectPorts, ",") {
		from, to, ok := portsIn(w)
		if !ok || from == 0 {
			return fmt.Errorf("connect ports %q: write ports and ranges, as in 443,8443-8449", s.ConnectPorts)
		}
		all = append(all, portRange{from, to})
	}
	s.connect = exactly(onPorts(newPorts(all...)))
	return nil
}

// accessLists are the directives that decide on requests, by what they do.
var accessLists = []string{"http_access", "adapted_http_access", "http_reply_access", "miss_access", "tcp_outgoing_address"}

func (s *squidReader) read(all []directive) {
	s.acls, s.lists = builtin(s.connect), map[string][]access{}
	own := map[string]bool{}
	for _, d := range all {
		switch {
		case slices.Contains(s.Ignore, ignoreName(d.place)):
			effect := Opens
			if d.words[0] != "http_access" || len(d.words) > 1 && d.words[1] != "deny" {
				effect = Differs
			}
			s.found.add(d.place, effect, "left out, as asked")
		case d.words[0] == "acl":
			s.define(d, own)
		case slices.Contains(accessLists, d.words[0]):
			s.list(d)
		default:
			s.other(d)
		}
	}
}

// ignoreName is how a line is named that is to be left out.
func ignoreName(at place) string { return fmt.Sprintf("%s:%d", at.file, at.line) }

func (s *squidReader) define(d directive, own map[string]bool) {
	if len(d.words) < 3 {
		s.problems.add(d.place, "an acl has a name, a type and values")
		return
	}
	name, kind := d.words[1], d.words[2]
	a := s.acls[name]
	if !own[name] {
		if a != nil && (name != "all" || kind != "src") && name != "manager" && name != "CONNECT" && a.kind != kind {
			s.problems.add(d.place, "the acl %s is squid's own, of type %s", name, a.kind)
			return
		}
		own[name] = true
		if name == "all" || name == "manager" {
			return // as it is
		}
		if name != "localhost" && name != "to_localhost" && name != "to_linklocal" || a == nil {
			a = &squidACL{name: name, kind: kind, place: d.place}
		}
		s.acls[name] = a
	} else if name == "all" || name == "manager" {
		return
	}
	if a.kind != kind {
		s.problems.add(d.place, "the acl %s is of type %s", name, a.kind)
		return
	}
	s.readACL(d, a)
}

// list reads a line of an access list.
func (s *squidReader) list(d directive) {
	a := access{place: d.place}
	if len(d.words) < 2 {
		s.problems.add(d.place, "%s is followed by nothing", d.words[0])
		return
	}
	switch word := d.words[1]; {
	case d.words[0] == "tcp_outgoing_address":
		addr, err := netip.ParseAddr(word)
		if err != nil {
			s.problems.add(d.place, "%q is no address", word)
			return
		}
		a.source = addr.Unmap()
	case word == "allow":
		a.allow = true
	case word != "deny":
		s.problems.add(d.place, "%q is neither allow nor deny", word)
		return
	}
	for _, w := range d.words[2:] {
		name, negated := strings.CutPrefix(w, "!")
		def := s.acls[name]
		if def == nil {
			s.problems.add(d.place, "there is no acl %s before this line", name)
			continue
		}
		if def.kind == "manager" {
			s.found.add(d.place, None, "there is no cache manager here, and nothing on other hosts is taken for it")
		}
		a.literals = append(a.literals, literal{def, negated})
	}
	s.lists[d.words[0]] = append(s.lists[d.words[0]], a)
}

// convert makes the result of what was read.
func (s *squidReader) convert() (*Result, error) {
	rest, err := s.group(region{})
	if err != nil {
		return nil, err
	}
	var found []group
	alike := map[string]group{}
	for _, r := range regions(s.clientPrefixes()) {
		key := s.membership(r)
		g, ok := alike[key]
		if !ok {
			if g, err = s.group(r); err != nil {
				return nil, err
			}
			alike[key] = g
		}
		g.clients = []netip.Prefix{r.prefix}
		found = append(found, g)
	}
	s.general()
	res := &Result{}
	all := groups(found, rest)
	if bound(append(slices.Clone(all), rest)) {
		s.found.add(place{file: s.first()}, Differs, "clients for whom no tcp_outgoing_address holds leave from the first address of the gateway, where in squid the route decided")
	}
	res.tenants(all, rest)
	res.Left = s.found.all
	slices.SortStableFunc(res.Left, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, cmp.Compare(a.Why, b.Why))
	})
	return res, nil
}

// clientPrefixes are those of the src acls that some list uses.
func (s *squidReader) clientPrefixes() (all []netip.Prefix) {
	for _, name := range accessLists {
		for _, a := range s.lists[name] {
			for _, l := range a.literals {
				if l.kind == "src" {
					all = append(all, l.clients...)
				}
			}
		}
	}
	return all
}

// membership is which src acls match the clients of a region: regions of one are alike.
func (s *squidReader) membership(r region) string {
	var b strings.Builder
	for _, name := range accessLists {
		for _, a := range s.lists[name] {
			for _, l := range a.literals {
				if l.kind == "src" {
					fmt.Fprintf(&b, "%v", len(l.matches(r).must) > 0)
				}
			}
		}
	}
	return b.String()
}

// group is what holds for the clients of a region.
func (s *squidReader) group(r region) (g group, err error) {
	l, err := s.rules(r)
	if err != nil {
		return g, err
	}
	if g.rules = l.text(); onlyComments(g.rules) {
		g.rules = ""
	}
	g.sources = s.sources(r)
	return g, nil
}

// rules are those of a region's clients.
func (s *squidReader) rules(r region) (rules, error) {
	b := &builder{narrowed: map[place]bool{}}
	lines := slices.Concat(s.gates(), s.lists["http_access"])
	if len(s.lists["http_access"]) == 0 {
		return always(false, place{}), nil
	}
	last := lines[len(lines)-1]
	end := last.place
	end.text = "else the opposite of " + end.text
	l := always(!last.allow, end)
	var err error
	for _, a := range slices.Backward(lines) {
		if l, err = s.line(b, a, r, l); err != nil {
			return nil, err
		}
	}
	for at := range b.narrowed {
		s.found.add(at, Closes, "a name and an address at once no rule can say; what depends on both is denied")
	}
	return l, nil
}

// gates are the lines of the other lists that deny, which hold beside http_access.
func (s *squidReader) gates() (all []access) {
	for _, name := range []string{"adapted_http_access", "http_reply_access", "miss_access"} {
		lines := s.lists[name]
		for _, a := range lines {
			if !a.allow {
				all = append(all, a)
				s.found.add(a.place, Closes, "%s is told as if it were http_access", name)
			}
		}
		if len(lines) > 0 && lines[len(lines)-1].allow && !unconditional(lines[len(lines)-1]) {
			end := lines[len(lines)-1]
			all = append(all, access{place: end.place})
			s.found.add(end.place, Closes, "what no line of %s allows is denied, and so all is", name)
		}
	}
	return all
}

func unconditional(a access) bool {
	return !slices.ContainsFunc(a.literals, func(l literal) bool { return l.negated || !l.everyone })
}

// line is: if all of the line's acls match, its verdict, else as l decides.
func (s *squidReader) line(b *builder, a access, r region, l rules) (rules, error) {
	b.line = a.place
	positive, negative, ok := s.conditions(a, r)
	if !ok {
		return l, nil
	}
	matches := everywhere
	for _, p := range positive {
		var narrowed bool
		var err error
		if matches, narrowed, err = conjunction(matches, p, a.allow); err != nil {
			return nil, err
		}
		if narrowed {
			s.found.add(a.place, Closes, "a name and an address at once no rule can say")
		}
	}
	if len(matches) == 0 {
		return l, nil
	}
	result, err := b.either(matches, always(a.allow, a.place), l)
	for _, n := range negative {
		if err == nil {
			result, err = b.either(n, l, result)
		}
	}
	return result, err
}

// conditions are what has to match, and what must not, of a line for a region's clients: as
// much as is certain where it allows, all that may be where it denies. ok is false when it
// never matches.
func (s *squidReader) conditions(a access, r region) (positive, negative [][]term, ok bool) {
	for _, l := range a.literals {
		p := l.matches(r)
		negated := l.negated
		if negated {
			if opposite, can := p.not(); can {
				p, negated = opposite, false
			}
		}
		sure, possible := p.must, p.may
		if negated {
			sure, possible = p.may, p.must
		}
		if p.why != "" {
			s.found.add(a.place, Closes, "%s: %s", l.label(), p.why)
		}
		part := possible
		if a.allow {
			part = sure
		}
		if p, ok := portsOf(part); ok {
			part = onPorts(p) // one rule, not one for each
		}
		switch {
		case negated && len(part) > 0:
			negative = append(negative, part)
		case !negated && len(part) == 0:
			return nil, nil, false
		case !negated:
			positive = append(positive, part)
		}
	}
	return positive, negative, true
}

// label is the acl's name, with where it stands.
func (a *squidACL) label() string {
	if a.file == "" {
		return "the acl " + a.kind
	}
	return fmt.Sprintf("the acl %s (%s, line %d)", a.name, a.kind, a.line)
}

// conjunction is what matches both. Names and addresses at once are left out where the line
// allows, and are all those names where it denies.
func conjunction(ts, us []term, allow bool) (both []term, narrowed bool, err error) {
	if len(ts)*len(us) > 50*maxRules {
		return nil, false, errTooLarge
	}
	for _, t := range ts {
		for _, u := range us {
			v, ok, exact := t.and(u)
			if !ok {
				continue
			}
			if !exact {
				narrowed = true
				if allow {
					continue
				}
				if t.kind == network {
					v.form, v.not = u.form, u.not
				} else {
					v.form, v.not = t.form, t.not
				}
			}
			both = append(both, v)
		}
	}
	return both, narrowed, nil
}
