package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	maxName  = 253 // octets of a name in text form (RFC 1035 section 3.1)
	maxChain = 16  // aliases from the name asked to the addresses
	maxAddrs = 64  // addresses of one family that are kept of an answer
)

// Answer is what one DNS message says about one name and one record type.
type Answer struct {
	Addrs []netip.Addr  // of the type asked; IPv4-mapped ones are unmapped
	TTL   time.Duration // the least of the chain; of a negative answer that of RFC 2308 section 5; 0: not to be cached
	Code  string        // "NOERROR", "NODATA" or "NXDOMAIN"
	Next  string        // the alias's target at which the message ended without saying more; to be asked next
	Chain []string      // the names from the one asked to the one that owns the addresses
}

var (
	errMismatch  = errors.New("not the answer to the question")
	errMalformed = errors.New("malformed answer")
	errTruncated = errors.New("truncated answer")
	errLoop      = errors.New("aliases form a loop")
	errLongChain = fmt.Errorf("more than %d aliases in a row", maxChain)
	errLame      = errors.New("lame referral: the server does not look names up")
)

// rcodeError is a response code that is no answer.
type rcodeError int

func (e rcodeError) Error() string { return rcodeName(int(e)) }

// ParseAnswer reads the bytes of a message in answer to query. It does no I/O.
// The error is a mismatch for a message that some one else may have sent (other
// ID or question, or not a response): while waiting for the answer it is to be
// ignored.
func ParseAnswer(query *dns.Msg, b []byte) (Answer, error) {
	m, err := match(query, b)
	if err != nil {
		return Answer{}, err
	}
	q := query.Question[0]
	return readAnswer(m, q.Name, q.Qtype)
}

// match unpacks b if it is the answer to query: ID and question are the query's,
// without regard to case (RFC 5452 section 9.1).
func match(query *dns.Msg, b []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	unpackErr := m.Unpack(b)
	if m.Id != query.Id || !m.Response || m.Opcode != dns.OpcodeQuery {
		return nil, errMismatch
	}
	if !sameQuestion(query, m) {
		return nil, errMismatch
	}
	// A server may cut a truncated message anywhere: TCP will have the whole.
	if m.Truncated {
		return nil, errTruncated
	}
	if unpackErr != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, unpackErr)
	}
	switch {
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, rcodeError(m.Rcode)
	case isLame(m):
		return nil, errLame
	}
	return m, nil
}

func sameQuestion(query, m *dns.Msg) bool {
	if len(m.Question) == 0 {
		// Some servers refuse with a bare header. It can't give an address, only a failure.
		return m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	}
	want, got := query.Question[0], m.Question[0]
	return len(m.Question) == 1 && got.Qtype == want.Qtype && got.Qclass == want.Qclass &&
		dns.CanonicalName(got.Name) == dns.CanonicalName(want.Name)
}

// isLame reports whether m merely points to other servers, as one does that is
// authoritative for something else.
func isLame(m *dns.Msg) bool {
	if m.Rcode != dns.RcodeSuccess || m.RecursionAvailable || m.Authoritative || len(m.Answer) > 0 {
		return false
	}
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNS })
}

// readAnswer follows the aliases from name to its addresses. Only records that
// some name of that chain owns are looked at.
func readAnswer(m *dns.Msg, name string, qtype uint16) (Answer, error) {
	owner := dns.CanonicalName(name)
	a := Answer{Code: dns.RcodeToString[m.Rcode], TTL: maxTTL, Chain: []string{owner}}
	for {
		target := a.collect(m.Answer, owner, qtype)
		if len(a.Addrs) > 0 {
			a.Code = dns.RcodeToString[dns.RcodeSuccess]
			return a, nil
		}
		if target == "" {
			break
		}
		if slices.Contains(a.Chain, target) {
			return Answer{}, errLoop
		}
		if len(a.Chain) > maxChain {
			return Answer{}, errLongChain
		}
		owner = target
		a.Chain = append(a.Chain, owner)
	}
	return a.negative(m, owner), nil
}

// maxTTL is the greatest TTL there is (RFC 2181 section 8).
const maxTTL = (1<<31 - 1) * time.Second

// collect takes owner's addresses of the type asked; without any, it returns the
// target of owner's alias, or "".
func (a *Answer) collect(rrs []dns.RR, owner string, qtype uint16) (target string) {
	alias := time.Duration(0)
	for _, rr := range rrs {
		h := rr.Header()
		if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != owner {
			continue
		}
		var addr netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			addr, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			addr, _ = netip.AddrFromSlice(rr.AAAA)
		case *dns.CNAME:
			if target == "" {
				target, alias = dns.CanonicalName(rr.Target), ttlOf(h)
			}
			continue
		}
		if h.Rrtype != qtype || !addr.IsValid() {
			continue
		}
		a.TTL = min(a.TTL, ttlOf(h))
		if addr = addr.Unmap(); len(a.Addrs) < maxAddrs && !slices.Contains(a.Addrs, addr) {
			a.Addrs = append(a.Addrs, addr)
		}
	}
	if len(a.Addrs) == 0 && target != "" {
		a.TTL = min(a.TTL, alias)
	}
	return target
}

// negative ends a chain without address at owner. The SOA record says how long
// that may be believed, if it is of a zone that owner can lie in.
func (a Answer) negative(m *dns.Msg, owner string) Answer {
	for _, rr := range m.Ns {
		soa, ok := rr.(*dns.SOA)
		if !ok || soa.Hdr.Class != dns.ClassINET || !dns.IsSubDomain(soa.Hdr.Name, owner) {
			continue
		}
		a.TTL = min(a.TTL, ttlOf(&soa.Hdr), seconds(soa.Minttl))
		if m.Rcode == dns.RcodeSuccess {
			a.Code = codeNoData
		}
		return a
	}
	if m.Rcode == dns.RcodeSuccess && len(a.Chain) > 1 {
		a.Next = owner
		return a
	}
	a.TTL = 0 // RFC 2308 section 5: without an SOA record, not to be cached
	if m.Rcode == dns.RcodeSuccess {
		a.Code = codeNoData
	}
	return a
}

func ttlOf(h *dns.RR_Header) time.Duration { return seconds(h.Ttl) }

// seconds is a TTL field's value; one with its highest bit set counts as zero
// (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
