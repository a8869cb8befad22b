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
	// maxAddrs bounds the addresses of one name. Each is judged, since the rules may allow
	// only the last.
	maxAddrs = 1000
)

// Answer is what one DNS message says about one name and one record type.
type Answer struct {
	Addrs []netip.Addr  // of the type asked; IPv4-mapped ones are unmapped
	TTL   time.Duration // the least of the chain; of a negative answer that of RFC 2308 section 5; 0: not to be cached
	Code  string        // "NOERROR", "NODATA" or "NXDOMAIN"
	Next  string        // the alias's target at which the message ended without saying more; to be asked next
	Chain []string      // the names from the one asked to the one that owns the addresses
	More  bool          // there were more than 1,000 addresses: the others are left out
}

var (
	errMismatch  = errors.New("not the answer to the question")
	errFolded    = errors.New("the answer does not have the case of the question")
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
	q := query.Question[0]
	m, err := match(query.Id, q, b, 0)
	if err != nil {
		return Answer{}, err
	}
	return readAnswer(m, q.Name, q.Qtype)
}

// checks are what match looks at besides ID and question.
type checks uint8

const (
	checkCase  checks = 1 << iota // the name has the case in which it was sent
	checkWhole                    // there is no other way to have the whole: what came is used
)

// match unpacks b if it is the answer to a question: ID, name, type and class are those
// of the question (RFC 5452 section 9.1).
func match(id uint16, asked dns.Question, b []byte, c checks) (m *dns.Msg, err error) {
	// Whatever the bytes do to the library, they end this question and nothing else.
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: %v", errMalformed, p)
		}
	}()
	m = new(dns.Msg)
	unpackErr := m.Unpack(b)
	if m.Id != id || !m.Response || m.Opcode != dns.OpcodeQuery || !sameQuestion(asked, m) {
		return nil, errMismatch
	}
	if c&checkCase != 0 && len(m.Question) > 0 && m.Question[0].Name != asked.Name {
		return nil, errFolded
	}
	// A server may cut a truncated message anywhere: TCP will have the whole, or at least more.
	if m.Truncated && (c&checkWhole == 0 || len(m.Answer) == 0) {
		return nil, errTruncated
	}
	if m.Truncated {
		unpackErr = nil
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

func sameQuestion(want dns.Question, m *dns.Msg) bool {
	if len(m.Question) == 0 {
		// Some servers refuse with a bare header. It can't give an address, only a failure.
		return m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	}
	got := m.Question[0]
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
	var seen map[netip.Addr]struct{}
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
		a.add(addr.Unmap(), &seen)
	}
	if len(a.Addrs) == 0 && target != "" {
		a.TTL = min(a.TTL, alias)
	}
	return target
}

// add adds an address that is not there yet, within the bound. seen is what is there, once
// that is much.
func (a *Answer) add(addr netip.Addr, seen *map[netip.Addr]struct{}) {
	const much = 16
	switch {
	case *seen != nil:
		if _, there := (*seen)[addr]; there {
			return
		}
	case slices.Contains(a.Addrs, addr):
		return
	}
	if len(a.Addrs) == maxAddrs {
		a.More = true
		return
	}
	a.Addrs = append(a.Addrs, addr)
	if *seen == nil && len(a.Addrs) == much {
		*seen = make(map[netip.Addr]struct{}, 4*much)
		for _, x := range a.Addrs {
			(*seen)[x] = struct{}{}
		}
	} else if *seen != nil {
		(*seen)[addr] = struct{}{}
	}
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
