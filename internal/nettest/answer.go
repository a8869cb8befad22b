package nettest

import (
	"net/netip"

	"github.com/miekg/dns"
)

// DefaultTTL is the time to live, in seconds, of records and negative answers
// whose script names none.
const DefaultTTL = 60

// Stray is a datagram that the server sends before the true answer.
type Stray uint8

// The strays: what a spoofer, or a server gone wrong, sends.
const (
	WrongID       Stray = iota + 1 // the true question and an address, under another ID
	WrongQuestion                  // the true ID, but the answer to another name
	WrongType                      // the true ID and name, but another record type
	NotResponse                    // the true ID and question, as a query
	Noise                          // bytes that are no DNS message
)

// StrayAddr is the address that stray answers carry; it must never be believed.
var StrayAddr = netip.MustParseAddr("203.0.113.66")

// Answer is one step of a name's script. Make one with [Addrs], [CNAME],
// [NXDomain], [NoData], [ServFail], [Refused], [Rcode], [Silent] or [Func] and
// refine it with its methods, which return a changed copy.
type Answer struct {
	addrs   []netip.Addr
	chain   []string
	rcode   int
	ttl     uint32
	soa     bool
	silent  bool
	dangles bool
	trunc   bool
	strays  []Stray
	gate    <-chan struct{}
	fn      func(q *dns.Msg) *dns.Msg
}

// Addrs answers A questions with the IPv4 and AAAA questions with the IPv6
// addresses of the list. A family without any gets NODATA with an SOA record.
func Addrs(addrs ...string) Answer {
	a := Answer{ttl: DefaultTTL, soa: true}
	for _, s := range addrs {
		a.addrs = append(a.addrs, netip.MustParseAddr(s))
	}
	return a
}

// CNAME answers with a chain of aliases, from the name asked to the last of
// chain. The addresses given with [Answer.To] belong to the last; without them
// the answer ends in the alias, and carries no SOA record, as from a server that
// leaves it to the client to ask on.
func CNAME(chain ...string) Answer {
	return Answer{ttl: DefaultTTL, chain: chain, dangles: true}
}

// NXDomain answers that the name does not exist, with an SOA record.
func NXDomain() Answer { return Answer{rcode: dns.RcodeNameError, ttl: DefaultTTL, soa: true} }

// NoData answers that the name has no record of the type, with an SOA record.
func NoData() Answer { return Answer{ttl: DefaultTTL, soa: true} }

// ServFail answers SERVFAIL.
func ServFail() Answer { return Rcode(dns.RcodeServerFailure) }

// Refused answers REFUSED.
func Refused() Answer { return Rcode(dns.RcodeRefused) }

// Rcode answers with the response code alone.
func Rcode(rcode int) Answer { return Answer{rcode: rcode} }

// Silent drops the question.
func Silent() Answer { return Answer{silent: true} }

// Func answers with what fn makes of the question; nil drops it. fn runs on the
// server's goroutines.
func Func(fn func(q *dns.Msg) *dns.Msg) Answer { return Answer{fn: fn} }

// TTL sets the time to live, in seconds, of every record, and of the negative
// answer that the SOA record stands for.
func (a Answer) TTL(seconds uint32) Answer { a.ttl = seconds; return a }

// To adds the addresses at the end of a chain of aliases.
func (a Answer) To(addrs ...string) Answer {
	b := Addrs(addrs...)
	a.addrs, a.soa, a.dangles = b.addrs, true, false
	return a
}

// NoSOA leaves out the SOA record, so that a negative answer may not be cached.
func (a Answer) NoSOA() Answer { a.soa = false; return a }

// Truncated makes the server send an empty answer with the TC bit over UDP, and
// the whole answer over TCP.
func (a Answer) Truncated() Answer { a.trunc = true; return a }

// After sends strays over UDP before the true answer.
func (a Answer) After(strays ...Stray) Answer { a.strays = strays; return a }

// Gate holds the answer back until ch is closed, or the server is.
func (a Answer) Gate(ch <-chan struct{}) Answer { a.gate = ch; return a }

// message is the answer to q, or nil for none.
func (a Answer) message(q *dns.Msg, udp bool) *dns.Msg {
	if a.silent {
		return nil
	}
	if a.fn != nil {
		return a.fn(q)
	}
	m := new(dns.Msg).SetRcode(q, a.rcode)
	m.RecursionAvailable = true
	if a.trunc && udp {
		m.Truncated = true
		return m
	}
	owner := q.Question[0].Name
	for _, next := range a.chain {
		next = dns.Fqdn(next)
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: a.header(owner, dns.TypeCNAME), Target: next})
		owner = next
	}
	found := a.addresses(owner, q.Question[0].Qtype)
	m.Answer = append(m.Answer, found...)
	if len(found) == 0 && a.soa && !a.dangles {
		m.Ns = append(m.Ns, a.authority(owner))
	}
	return m
}

// addresses are the records of the type asked.
func (a Answer) addresses(owner string, qtype uint16) []dns.RR {
	var rrs []dns.RR
	for _, addr := range a.addrs {
		switch {
		case addr.Is4() && qtype == dns.TypeA:
			rrs = append(rrs, &dns.A{Hdr: a.header(owner, qtype), A: addr.AsSlice()})
		case addr.Is6() && qtype == dns.TypeAAAA:
			rrs = append(rrs, &dns.AAAA{Hdr: a.header(owner, qtype), AAAA: addr.AsSlice()})
		}
	}
	return rrs
}

func (a Answer) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: a.ttl}
}

// authority is the SOA record of the zone right above owner.
func (a Answer) authority(owner string) dns.RR {
	zone := "."
	if next, end := dns.NextLabel(owner, 0); !end {
		zone = owner[next:]
	}
	return &dns.SOA{
		Hdr: a.header(zone, dns.TypeSOA), Ns: "ns.test.", Mbox: "hostmaster.test.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: a.ttl,
	}
}

// stray is the datagram that s sends in reply to q.
func (s Stray) datagram(q *dns.Msg) []byte {
	if s == Noise {
		return []byte("no DNS message")
	}
	m := Addrs(StrayAddr.String(), "2001:db8::66").message(q, true)
	switch s {
	case WrongID:
		m.Id++
	case WrongQuestion:
		m.Question[0].Name = "stray.test."
	case WrongType:
		m.Question[0].Qtype = dns.TypeTXT
	case NotResponse:
		m.Response = false
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}
