package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/sluiceproxy/sluice/internal/source"
)

// word is a word of a text, with its line.
type word struct {
	text string
	line int
}

// words are what stands between commas and white space.
func words(text string) []word {
	var all []word
	for i, line := range strings.Split(text, "\n") {
		for _, w := range strings.FieldsFunc(line, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
			all = append(all, word{w, i + 1})
		}
	}
	return all
}

// problems gathers what is wrong with a text; every message begins as the
// original's does.
type problems struct {
	prefix string
	all    []Problem
}

func (p *problems) add(line int, format string, args ...any) {
	p.all = append(p.all, Problem{Line: line, Msg: p.prefix + ": " + fmt.Sprintf(format, args...)})
}

// ParseSources takes EGRESS_SOURCE: ADDR or ADDR/LEN, several with commas or white
// space between them. One that is listed twice counts once. Gateway and Interface
// of the result are empty: see [ParseGateways] and [ParseInterfaces].
func ParseSources(text string) ([]Source, []Problem) {
	p := problems{prefix: source.Wrong}
	var all []Source
	for _, w := range words(text) {
		prefix, err := source.Parse(w.text, source.Bring)
		switch i := slices.IndexFunc(all, func(s Source) bool { return s.Addr() == prefix.Addr() }); {
		case err != nil:
			p.all = append(p.all, Problem{Line: w.line, Msg: err.Error()})
		case i < 0:
			all = append(all, Source{Prefix: prefix})
		case all[i].Prefix != prefix:
			p.add(w.line, "%s and %s are one address with two lengths; keep one of them", all[i].Prefix, prefix)
		}
	}
	if len(all) == 0 && len(p.all) == 0 {
		p.add(1, "name the address to send from, ADDR or ADDR/LEN")
	}
	return all, p.all
}

// sendable reports whether a host elsewhere can have the address.
func sendable(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// ParseGateways takes EGRESS_GATEWAY, ADDR for all sources of a family or
// ADDR@SOURCE for one of them, and gives the sources their gateways in place.
func ParseGateways(text string, sources []Source) []Problem {
	p := problems{prefix: "EGRESS_GATEWAY unspecified or invalid"}
	plain := map[bool]word{} // by Is4
	for _, w := range words(text) {
		name, at, own := strings.Cut(w.text, "@")
		gw, err := netip.ParseAddr(name)
		if err != nil || gw.Zone() != "" || gw.Is4In6() || !sendable(gw) {
			p.add(w.line, "%q is not ADDR or ADDR@SOURCE", w.text)
			continue
		}
		if !own {
			if first, ok := plain[gw.Is4()]; ok && first.text != w.text {
				p.add(w.line, "%s and %s are both for %s; say which source each is for: %s@SOURCE", first.text, w.text, family(gw), w.text)
				continue
			}
			plain[gw.Is4()] = w
			continue
		}
		p.gatewayOf(w, gw, at, sources)
	}
	p.spread(plain, sources)
	return p.all
}

// gatewayOf gives the source named at its gateway.
func (p *problems) gatewayOf(w word, gw netip.Addr, at string, sources []Source) {
	i := indexSource(sources, at)
	switch {
	case i < 0:
		p.add(w.line, "%q: %q is no EGRESS_SOURCE", w.text, at)
	case sources[i].Addr().Is4() != gw.Is4():
		p.add(w.line, "%q: gateway and source are not of one family", w.text)
	case sources[i].Gateway.IsValid() && sources[i].Gateway != gw:
		p.add(w.line, "%q: %s has the gateway %s already", w.text, at, sources[i].Gateway)
	case sources[i].Addr() == gw:
		p.add(w.line, "%q: the source is its own gateway", w.text)
	default:
		sources[i].Gateway = gw
	}
}

// spread gives the sources without a gateway of their own that of their family.
func (p *problems) spread(plain map[bool]word, sources []Source) {
	wrong := len(p.all) > 0
	for i, s := range sources {
		if s.Gateway.IsValid() {
			continue
		}
		w, ok := plain[s.Addr().Is4()]
		gw, _ := netip.ParseAddr(w.text)
		switch {
		case ok && gw == s.Addr():
			p.add(w.line, "%s is an EGRESS_SOURCE and its own gateway", gw)
		case ok:
			sources[i].Gateway = gw
		case !wrong: // else it may be the one that was refused
			p.add(1, "no gateway for EGRESS_SOURCE %s; name one of its family", s.Addr())
		}
	}
	for is4, w := range plain {
		if len(sources) > 0 && !slices.ContainsFunc(sources, func(s Source) bool { return s.Addr().Is4() == is4 }) {
			p.add(w.line, "%s: there is no EGRESS_SOURCE of its family", w.text)
		}
	}
}

// indexSource finds a source by its address, with or without the length.
func indexSource(sources []Source, s string) int {
	s, _, _ = strings.Cut(s, "/")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(sources, func(s Source) bool { return s.Addr() == addr })
}

// ParseInterfaces takes EGRESS_INTERFACE, NAME for all sources or NAME@SOURCE for
// one of them, and gives the sources their interfaces in place.
func ParseInterfaces(text string, sources []Source) []Problem {
	p := problems{prefix: "EGRESS_INTERFACE invalid"}
	plain := ""
	for _, w := range words(text) {
		name, at, own := strings.Cut(w.text, "@")
		i := indexSource(sources, at)
		switch err := CheckInterface(name); {
		case err != nil:
			p.add(w.line, "%v", err)
		case own && i < 0:
			p.add(w.line, "%q: %q is no EGRESS_SOURCE", w.text, at)
		case own && sources[i].Interface != "" && sources[i].Interface != name:
			p.add(w.line, "%q: %s has the interface %s already", w.text, at, sources[i].Interface)
		case own:
			sources[i].Interface = name
		case plain != "" && plain != name:
			p.add(w.line, "%s and %s are both for every source; say which source each is for: %s@SOURCE", plain, name, name)
		default:
			plain = name
		}
	}
	for i := range sources {
		if sources[i].Interface == "" {
			sources[i].Interface = plain
		}
	}
	return p.all
}

// CheckInterface reports what is wrong with an interface's name, as the kernel
// would.
func CheckInterface(name string) error {
	switch {
	case name == "" || len(name) > 15 || name == "." || name == ".." ||
		strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || r <= ' ' || r > '~' || r == '"' }):
		return fmt.Errorf("%q is no name of an interface: up to 15 letters and digits", name)
	case name == "lo":
		return fmt.Errorf("nothing can leave by %q", name)
	}
	return nil
}
