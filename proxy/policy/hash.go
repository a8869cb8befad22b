package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// hashed is what every hash begins with: another way to make them has another word.
const hashed = "sluice policy 1"

// Hash stands for all that s is judged by, in 64 hex digits: SHA-256 over frames, each of them
// its length in 8 bytes, the highest first, and its bytes. Two gateways with the same hash judge
// alike, but for the addresses that are their own; comments and spelling don't count, nor do the
// clock, sources, and what is only shown. docs/policy.md has the frames in their order.
func (s *Set) Hash() string {
	h := sha256.New()
	f := frames{b: acl.AppendFrame(nil, hashed), w: func(b []byte) { h.Write(b) }}
	f.add(s.Mode.String())
	f.tenant(&s.Rest)
	f.add(strconv.Itoa(len(s.Tenants)))
	for i := range s.Tenants {
		t := &s.Tenants[i]
		f.add(t.Name)
		f.clients(t)
		f.tenant(&t.Tenant)
	}
	f.w(f.b)
	return hex.EncodeToString(h.Sum(nil))
}

// frames are written by w when there are some.
type frames struct {
	b []byte
	w func([]byte)
}

func (f *frames) add(s string) { f.b = acl.AppendFrame(f.b, s) }

// each adds n, and that many frames.
func (f *frames) each(n int, text func(int) string) {
	f.add(strconv.Itoa(n))
	for i := range n {
		f.add(text(i))
	}
}

// clients adds whom t takes; the order in which they are written does not matter.
func (f *frames) clients(t *Taker) {
	clients := slices.Clone(t.Clients)
	slices.SortFunc(clients, netip.Prefix.Compare)
	clients = slices.Compact(clients)
	f.each(len(clients), func(i int) string { return clients[i].String() })
	var others []string
	for _, s := range t.Shown {
		others = append(others, s.String())
	}
	for _, p := range t.Pods {
		others = append(others, "pod "+p.Namespace+"/"+p.ServiceAccount)
	}
	slices.Sort(others)
	others = slices.Compact(others)
	f.each(len(others), func(i int) string { return others[i] })
}

// tenant adds what a tenant's requests are judged by.
func (f *frames) tenant(t *Tenant) {
	f.add(strconv.Itoa(t.Limits.Connections))
	f.add(strconv.FormatFloat(t.Limits.RequestsPerSecond, 'g', -1, 64))
	f.add(strconv.Itoa(t.Limits.Burst))
	f.w(f.b)
	f.b = f.b[:0]
	t.Rules.Frames(f.w)
	f.inspect(t.Inspect)
	f.parents(t.Parents)
}

// inspect adds what requests are asked; nothing where they are not.
func (f *frames) inspect(in *Inspect) {
	if in == nil {
		return
	}
	f.add("inspect")
	f.add(strconv.Itoa(len(in.hosts)))
	for i := range in.hosts {
		h := &in.hosts[i]
		o := h.Requests.Options()
		f.add(h.canonical)
		for _, b := range []bool{h.Passthrough, h.Browsers, o.EncodedSlash, o.EmptySegments} {
			f.add(strconv.FormatBool(b))
		}
		f.add(strconv.FormatInt(h.MaxBody, 10))
		f.each(len(h.Headers), func(i int) string { return strings.ToLower(h.Headers[i].Name) })
		rules := slices.Collect(h.Requests.Canonical())
		f.each(len(rules), func(i int) string { return rules[i] })
	}
	f.w(f.b)
	f.b = f.b[:0]
}

// parents adds by whom requests go; nothing where they all go directly.
func (f *frames) parents(p *Parents) {
	if p == nil {
		return
	}
	f.add("parents")
	f.add(strconv.Itoa(len(p.ways)))
	for i := range p.ways {
		w := &p.ways[i]
		f.add(strconv.FormatBool(w.ByName))
		f.each(len(w.For), func(i int) string {
			one, _ := acl.Parse(w.For[i])
			return one.Rule(1).Canonical()
		})
		f.each(len(w.Via), func(i int) string { return w.Via[i].String() })
	}
	f.w(f.b)
	f.b = f.b[:0]
}
