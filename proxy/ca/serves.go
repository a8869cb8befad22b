package ca

import (
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Serves is for how many of some hosts the name constraints of a CA let it sign.
type Serves uint8

const (
	None Serves = iota
	Some
	Every
)

// ServesName says so of a name.
func (a *Authority) ServesName(name string) Serves {
	if !a.bound() {
		return Every
	}
	return of(a.serves(name))
}

// bound reports whether a has name constraints.
func (a *Authority) bound() bool {
	c := a.cert
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges) > 0
}

// of is that of samples: of those hosts that a constraint could tell from others.
func of(samples ...bool) Serves {
	switch {
	case !slices.Contains(samples, true):
		return None
	case slices.Contains(samples, false):
		return Some
	}
	return Every
}

// serves reports whether a may sign for a host. That it is not valid yet is another matter.
func (a *Authority) serves(host string) bool {
	_, err := a.Certificate(host)
	bad, ok := errors.AsType[x509.CertificateInvalidError](err)
	return err == nil || ok && bad.Reason == x509.Expired
}

// ServesBelow says so of a name and all names below it.
func (a *Authority) ServesBelow(name string) Serves {
	if !a.bound() {
		return Every
	}
	samples := []bool{a.serves(name), a.serves("below." + name)}
	for _, list := range [][]string{a.cert.PermittedDNSDomains, a.cert.ExcludedDNSDomains} {
		for _, d := range list {
			if d = strings.ToLower(strings.TrimPrefix(d, ".")); strings.HasSuffix(d, "."+name) {
				samples = append(samples, a.serves(d), a.serves("below."+d))
			}
		}
	}
	return of(samples...)
}

// ServesIn says so of the addresses of a prefix, which is masked.
func (a *Authority) ServesIn(p netip.Prefix) Serves {
	if !a.bound() {
		return Every
	}
	samples := []bool{a.serves(p.Addr().String()), a.serves(last(p).String())}
	for _, list := range [][]*net.IPNet{a.cert.PermittedIPRanges, a.cert.ExcludedIPRanges} {
		for _, n := range list {
			if at, ok := netip.AddrFromSlice(n.IP); ok && p.Contains(at.Unmap()) {
				samples = append(samples, a.serves(at.Unmap().String()))
			}
		}
	}
	return of(samples...)
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
