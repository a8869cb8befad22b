package main

import (
	"fmt"
	"net/netip"

	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

// holdSettings are what only the command hold has.
type holdSettings struct {
	Socket    string
	Groups    [][]netip.Addr // none: all sources are one group
	ReplyFrom []netip.Addr
	SkipReply bool
}

// group is the table of h's settings. The pool is read by load, with the sources.
func (h *holdSettings) group() settings.Group {
	const fixed = settings.Restart
	return settings.Group{Title: "Holding", Settings: []settings.Setting{
		{Flag: "pool", Egress: "EGRESS_POOL", Key: "pool", Value: "GROUP", List: true, Change: fixed,
			Help: "addresses that are held together, ADDR,ADDR or ADDR/LEN,ADDR/LEN; may be given several times (default all of EGRESS_SOURCE together)"},
		{Flag: "hold-socket", Key: "holdSocket", Default: "/run/sluice/hold.sock", Value: "FILE", Change: fixed,
			Help: "serve sluice-kube hold on this Unix socket",
			Into: settings.One(&h.Socket, settings.Socket)},
		{Flag: "hold-reply-from", Key: "holdReplyFrom", Value: "ADDR", List: true, Change: fixed,
			Help: "a host of each family that answers ICMP echo, to see that replies come back to what is held, or off (default the gateways)",
			Into: h.replyFrom()},
	}}
}

func (h *holdSettings) replyFrom() settings.Into {
	return settings.Into{Place: &h.ReplyFrom, Read: func(vs []settings.Value, report func(settings.Problem)) {
		words := settings.Words(vs)
		for _, w := range words {
			a, err := netip.ParseAddr(w.Text)
			switch {
			case w.Text == "off" && len(words) == 1:
				h.SkipReply = true
			case err != nil || a.Zone() != "" || a.Is4In6():
				report(w.Problem(fmt.Sprintf("%q is no address, nor off alone", w.Text)))
			case h.has(a.Is4()):
				report(w.Problem(fmt.Sprintf("%s is the second of its family; name one", a)))
			default:
				h.ReplyFrom = append(h.ReplyFrom, a)
			}
		}
	}}
}

func (h *holdSettings) has(v4 bool) bool {
	for _, a := range h.ReplyFrom {
		if a.Is4() == v4 {
			return true
		}
	}
	return false
}

// ofPool reads the pool, if there is one, and reports whether the sources are its addresses
// since none are named by themselves.
func (l *loader) ofPool() bool {
	if l.c.hold == nil {
		return false
	}
	pool := l.pick("pool")
	if len(l.Values(pool)) == 0 {
		return false
	}
	source := l.pick("source")
	named := len(l.Values(source)) > 0
	l.read(pool, func(text string) (ps []netsetup.Problem) {
		var sources []netsetup.Source
		l.c.hold.Groups, sources, ps = netsetup.ParsePool(text)
		if !named {
			l.c.Sources = sources
		}
		return ps
	})
	return !named
}

// checkPool reports what pool and sources, each right by itself, make wrong together.
func (l *loader) checkPool() {
	if l.c.hold == nil || len(l.c.hold.Groups) == 0 {
		return
	}
	for _, p := range netsetup.CheckPool(l.c.hold.Groups, l.c.Sources) {
		l.Report(settings.Problem{Source: l.At(l.pick("pool")).Source, Msg: p.Msg})
	}
}
