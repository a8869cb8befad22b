package resolve

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// result is what asking about a name came to.
type result struct {
	addrs []netip.Addr
	ttl   time.Duration // 0: not to be cached
	err   *Error        // nil with addrs
	// partial: the other family failed, or has not answered yet.
	partial bool
	parts   [2]part
	more    bool // there were more addresses than may be kept
}

// half is one family's part of an outcome.
type half struct {
	family int // 0: A, 1: AAAA
	a      Answer
	err    *Error
}

func (h *half) found() bool  { return h != nil && len(h.a.Addrs) > 0 }
func (h *half) failed() bool { return h == nil || h.err != nil }
func (h *half) nx() bool     { return h != nil && h.a.Code == codeNXDomain }

var codeNXDomain = rcodeName(dns.RcodeNameError)

// merge makes one outcome of the two families; a nil half has not answered yet.
func (r *Resolver) merge(name string, got [2]*half) result {
	a, aaaa := got[0], got[1]
	if !a.found() && !aaaa.found() {
		return r.mergeNegative(name, got)
	}
	o := result{ttl: r.maxTTL}
	o.join(got)
	for family, h := range got {
		if !h.failed() {
			o.parts[family] = r.partOf(name, h)
		}
		switch {
		case h.failed():
			o.partial = true
		case h.found():
			o.ttl = min(o.ttl, h.a.TTL)
		default:
			// No address of this family, for as long as its SOA record says; but without
			// one, the other family's answer must not lose its place in the cache.
			o.ttl = min(o.ttl, max(h.a.TTL, partialTTL))
		}
	}
	o.ttl = max(o.ttl, r.minTTL)
	if o.partial {
		o.ttl = min(o.ttl, partialTTL)
	}
	return o
}

// join lists the addresses of both families in one slice of that size, of which the
// families then are parts. When they are more than may be, each has at least half.
func (o *result) join(got [2]*half) {
	var n [2]int
	for family, h := range got {
		if h.found() {
			n[family] = len(h.a.Addrs)
			o.more = o.more || h.a.More
		}
	}
	if n[0]+n[1] > maxAddrs {
		o.more = true
		n[1] = min(n[1], max(maxAddrs/2, maxAddrs-n[0]))
		n[0] = maxAddrs - n[1]
	}
	o.addrs = make([]netip.Addr, 0, n[0]+n[1])
	for family, h := range got {
		if !h.found() {
			continue
		}
		from, twice := len(o.addrs), false
		for _, addr := range h.a.Addrs[:n[family]] {
			// Only an IPv4-mapped address can be one that is there already.
			if family == 1 && addr.Is4() && slices.Contains(o.addrs[:from], addr) {
				twice = true
				continue
			}
			o.addrs = append(o.addrs, addr)
		}
		if !twice {
			h.a.Addrs = o.addrs[from:len(o.addrs):len(o.addrs)]
		}
	}
}

// partOf is what is remembered of one family's answer about name.
func (r *Resolver) partOf(name string, h *half) part {
	ttl := min(h.a.TTL, r.negativeTTLMax)
	if h.found() {
		ttl = max(min(h.a.TTL, r.maxTTL), r.minTTL)
	}
	return part{asked: name, addrs: h.a.Addrs, code: h.a.Code, until: r.clock() + ttl}
}

// part returns what e, which may be nil, knows of a family of the name asked, if that
// holds longer than e does.
func (e *entry) part(family int, asked string, now time.Duration) (Answer, bool) {
	if e == nil || e.parts[family].asked != asked || max(now, e.expires) >= e.parts[family].until {
		return Answer{}, false
	}
	p := &e.parts[family]
	return Answer{Addrs: p.addrs, Code: p.code, TTL: p.until - now}, true
}

func (r *Resolver) mergeNegative(name string, got [2]*half) result {
	nx := got[0].nx() || got[1].nx()
	for _, h := range got {
		// NXDOMAIN of the A question holds whatever became of the other.
		if h == nil || h.err == nil || got[0].nx() {
			continue
		}
		o := result{err: h.err, ttl: r.failureTTL}
		if h.err.local {
			o.ttl = 0
		}
		return o
	}
	o := result{ttl: r.negativeTTLMax, err: &Error{Name: name, Kind: NotFound, Code: codeNoData}}
	if nx {
		o.err.Code = codeNXDomain
	}
	for _, h := range got {
		if !h.failed() {
			o.ttl = min(o.ttl, h.a.TTL)
		}
	}
	return o
}
