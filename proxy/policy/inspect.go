package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
)

// Inspect says what requests may do at some of the hosts that a tenant may reach. It is not
// changed once it was made; nil says nothing of any host.
type Inspect struct {
	// Certificate is what clients are shown as a host's, which is a name or an address; nil:
	// there is no CA, and tunnels to the hosts are denied. It may be called concurrently.
	Certificate func(host string) (*tls.Certificate, error)

	hosts   []Inspected
	tunnels index // by host and port: what is reached by TLS
	plain   index // by host alone, without ports that are passed through: what is reached in plain
}

// Inspected is what requests may do at the hosts of one form. The zero Inspected denies them all.
type Inspected struct {
	Host     string         // a form of [acl], with ports or without, but neither `!` nor `*`; without: 443
	Requests *request.Rules // nil denies every request
	// Headers are put into each request, in place of what the client has sent under their
	// names. They go only to a server whose certificate was verified.
	Headers     []Header
	MaxBody     int64 // bytes of a request's body; 0: as many as it likes
	Browsers    bool  // with Headers: pages of other origins may make requests, too
	Passthrough bool  // tunnels are not opened, and nothing is asked of requests
	Line        int   // of the configuration, for who finds fault with it; 0: not known

	credential string
	canonical  string          // spelling of Host
	name       bool            // Host is a name, or names
	ports      []acl.PortRange // of tunnels that are opened
}

// Asked is what a request under way asks for at a host of which an Inspect says what requests may do.
type Asked struct {
	Method, Path string // as they were judged
	ByTLS        bool
}

// Credential stands for what is put into requests, without showing it; "": nothing is.
func (in *Inspected) Credential() string { return in.credential }

// Header is a field that requests are sent with. It holds a secret: nothing shows its value.
type Header struct {
	Name  string // as it is sent
	value []byte
	// Problem is why there is no value: the request fails then. nil: there is one.
	Problem error
	// traces are how an answer could show the secret, in lower case.
	traces [][]byte
}

// leastSecret is how many bytes of a secret, or of its Base64, can be told from anything else.
const leastSecret = 8

// NewHeader is a field whose value is prefix and secret.
func NewHeader(name, prefix string, secret []byte) Header {
	h := Header{Name: name, value: append([]byte(prefix), secret...)}
	if len(secret) < leastSecret {
		return h
	}
	h.traces = append(h.traces, lower(secret))
	// In Base64 it looks different behind each number of bytes modulo 3; what stands at its
	// ends depends on what is around it.
	for skip := range 3 {
		enc := base64.StdEncoding.EncodeToString(append(make([]byte, skip), secret...))
		std := enc[(skip*8+5)/6 : (skip+len(secret))*8/6]
		if len(std) < leastSecret {
			continue
		}
		h.traces = append(h.traces, lower(std))
		if url := strings.NewReplacer("+", "-", "/", "_").Replace(std); url != std {
			h.traces = append(h.traces, lower(url))
		}
	}
	return h
}

// Is reports whether a server may take a field of that name for this one.
func (h *Header) Is(name []byte) bool { return SameField(name, h.Name) }

// SameField reports whether a server may take name for that of a field: in any case, and with
// whatever is neither letter nor digit for what is neither, as some make variables of names (RFC 3875
// section 4.1.18).
func SameField(name []byte, field string) bool {
	plain := func(c byte) byte {
		switch {
		case 'A' <= c && c <= 'Z':
			return c + ('a' - 'A')
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		}
		return '-'
	}
	if len(name) != len(field) {
		return false
	}
	for i, c := range name {
		if plain(c) != plain(field[i]) {
			return false
		}
	}
	return true
}

// AppendValue appends the value to b.
func (h *Header) AppendValue(b []byte) []byte { return append(b, h.value...) }

// ShownBy reports whether the head of an answer, or another part that is not its body, shows a secret
// that is put into requests, plain or in Base64. Case does not matter: names of fields may come in
// another than that in which the server has sent them, and go on in another. A secret of fewer than 8
// bytes is not looked for.
func (in *Inspected) ShownBy(part []byte) bool {
	var room [4 << 10]byte // of most heads
	b := appendLower(room[:0], part)
	for i := range in.Headers {
		for _, t := range in.Headers[i].traces {
			if bytes.Contains(b, t) {
				return true
			}
		}
	}
	return false
}

func lower[T string | []byte](s T) []byte { return appendLower(nil, s) }

// appendLower appends s to b with the letters of ASCII in lower case.
func appendLower[T string | []byte](b []byte, s T) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// NewInspect makes hosts, of which the first whose form a target is says what requests may do.
// The error says which form is none.
func NewInspect(hosts []Inspected) (*Inspect, error) {
	in := &Inspect{hosts: hosts}
	var tunnels, first, last forms // first: those that are for their hosts as a whole
	for i := range hosts {
		p, err := acl.Parse(hosts[i].Host)
		rule := p.Rule(1)
		if err != nil || p.Len() != 1 || rule.Deny || rule.Form == acl.FormStar {
			return nil, fmt.Errorf("%q is not the form of a host: write a name, *.name or an address, and ports behind it or none", hosts[i].Host)
		}
		hosts[i].credential, hosts[i].canonical = credential(hosts[i].Headers), rule.Canonical()
		anywhere := rule
		anywhere.Ports = nil
		if rule.Ports == nil {
			first.add(anywhere, i, false)
			rule.Ports = []acl.PortRange{{From: 443, To: 443}}
		} else {
			last.add(anywhere, i, hosts[i].Passthrough)
		}
		hosts[i].name, hosts[i].ports = rule.Form != acl.FormAddr, rule.Ports
		tunnels.add(rule, i, false)
	}
	plain := first.and(last)
	var err error
	if in.tunnels, err = tunnels.index(); err == nil {
		in.plain, err = plain.index()
	}
	return in, err
}

// credential is different for different values.
func credential(headers []Header) string {
	if len(headers) == 0 {
		return ""
	}
	var b []byte
	for i := range headers {
		b = acl.AppendFrame(acl.AppendFrame(b, headers[i].Name), headers[i].value)
	}
	sum := sha256.Sum256(b)
	return string(sum[:])
}

// All are the hosts, in their order, for who shows them. They are not changed.
func (in *Inspect) All() []Inspected {
	if in == nil {
		return nil
	}
	return in.hosts
}

// Of returns what requests to a target may do, that go by TLS or in plain; nil: nothing is said
// of it. In plain the rules are those of the host, at whatever port, if nothing is said of that.
func (in *Inspect) Of(t acl.Target, byTLS bool) *Inspected {
	if in == nil {
		return nil
	}
	if i := in.tunnels.first(t); in.asks(i) {
		return &in.hosts[i]
	}
	if i := in.plain.first(t); !byTLS && in.asks(i) {
		return &in.hosts[i]
	}
	return nil
}

// OpensNames reports whether there are names to which tunnels to that port are opened.
func (in *Inspect) OpensNames(port uint16) bool {
	return in != nil && in.Certificate != nil && slices.ContainsFunc(in.hosts, func(h Inspected) bool {
		return h.name && !h.Passthrough && slices.ContainsFunc(h.ports, func(r acl.PortRange) bool { return r.From <= port && port <= r.To })
	})
}

// asks reports whether requests are asked about at the host of that number; -1 is none.
func (in *Inspect) asks(i int) bool { return i >= 0 && !in.hosts[i].Passthrough }

// Elsewhere reports whether requests to the target's host are asked what they may do, but nothing
// is said of tunnels to its port, not even that they pass through.
func (in *Inspect) Elsewhere(t acl.Target) bool {
	return in != nil && in.tunnels.first(t) < 0 && in.asks(in.plain.first(t))
}

// index finds the first host whose form a target is. A target is a name or an address, and
// forms of the other kind are none of its.
type index struct {
	names, addrs   *acl.Policy
	nameAt, addrAt []int // the host that a rule is of
}

func (x *index) first(t acl.Target) int {
	p, at := x.names, x.nameAt
	if t.Host.IsAddr() {
		p, at = x.addrs, x.addrAt
	}
	if d := p.DecideHost(t); d.Verdict == acl.Allow {
		return at[d.Rule-1]
	}
	return -1
}

// forms are what an index is made of.
type forms struct {
	names, addrs   strings.Builder
	nameAt, addrAt []int
}

// add adds the form of a host, unless it is to be left out.
func (f *forms) add(r acl.Rule, host int, out bool) {
	if out {
		return
	}
	if r.Form == acl.FormAddr {
		f.addrs.WriteString(r.Canonical() + "\n")
		f.addrAt = append(f.addrAt, host)
		return
	}
	f.names.WriteString(r.Canonical() + "\n")
	f.nameAt = append(f.nameAt, host)
}

// and is f, with g behind it.
func (f *forms) and(g forms) *forms {
	f.names.WriteString(g.names.String())
	f.addrs.WriteString(g.addrs.String())
	f.nameAt, f.addrAt = append(f.nameAt, g.nameAt...), append(f.addrAt, g.addrAt...)
	return f
}

func (f *forms) index() (index, error) {
	names, err := unguarded(f.names.String())
	if err != nil {
		return index{}, err
	}
	addrs, err := unguarded(f.addrs.String())
	return index{names: names, addrs: addrs, nameAt: f.nameAt, addrAt: f.addrAt}, err
}

// unguarded are rules that only compare: what may be reached is decided elsewhere.
func unguarded(text string) (*acl.Policy, error) {
	p, err := acl.Parse(text)
	return p.WithGuard(acl.Guard{Mode: acl.GuardOff}), err
}
