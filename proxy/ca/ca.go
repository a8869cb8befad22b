// Package ca makes certificates that clients of inspected hosts are shown, signed by a CA of the
// user's own. The key of the CA never leaves memory.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	lasts = 24 * time.Hour // a certificate
	early = time.Hour      // it is valid before it was made, for clocks that are behind
	fresh = 12 * time.Hour // it is shown for so long, and made anew then
	most  = 4096           // certificates that are kept
)

// Authority signs certificates. Make it with New. Its methods may be called concurrently.
type Authority struct {
	pair tls.Certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey // of all certificates that it signs

	mu   sync.Mutex // guards made
	made map[string]*tls.Certificate
}

// New returns the CA of a certificate and its key, which may be followed by those that lead to
// its root. The error says what it cannot sign for.
func New(pair tls.Certificate) (*Authority, error) {
	cert := pair.Leaf
	switch {
	case cert == nil || len(pair.Certificate) == 0:
		return nil, errors.New("there is no certificate")
	case !cert.IsCA || !cert.BasicConstraintsValid:
		return nil, errors.New("the certificate is not that of a CA (basicConstraints)")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate may not sign others (keyUsage)")
	case time.Now().After(cert.NotAfter):
		return nil, fmt.Errorf("the certificate has ended on %s", cert.NotAfter.UTC().Format(time.DateOnly))
	}
	if _, ok := pair.PrivateKey.(crypto.Signer); !ok {
		return nil, errors.New("the key cannot sign")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Authority{pair: pair, cert: cert, key: key, made: map[string]*tls.Certificate{}}, nil
}

// Same reports whether b signs with the same certificate: what a has made is as good then.
func (a *Authority) Same(b *Authority) bool {
	return a != nil && b != nil && a.cert.Equal(b.cert)
}

// Certificate returns what clients are shown as a host, a name or an address: ECDSA P-256, for
// that name alone, so that no client uses the connection for another host, and valid for a day.
// One that the name constraints of the CA forbid is an error.
func (a *Authority) Certificate(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if c := a.made[host]; c != nil && now.Before(c.Leaf.NotBefore.Add(early+fresh)) && now.Before(c.Leaf.NotAfter) {
		return c, nil
	}
	c, err := a.sign(host, now)
	if err != nil {
		return nil, err
	}
	if len(a.made) >= most {
		clear(a.made) // who is asked for again is made again, for less than a handshake costs
	}
	a.made[host] = c
	return c, nil
}

// sign makes a certificate of a host.
func (a *Authority) sign(host string, now time.Time) (*tls.Certificate, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] &= 0x7f
	t := &x509.Certificate{
		SerialNumber: newInt(serial),
		Subject:      pkix.Name{CommonName: name64(host)},
		NotBefore:    now.Add(-early),
		NotAfter:     now.Add(lasts),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if t.NotBefore.Before(a.cert.NotBefore) {
		t.NotBefore = a.cert.NotBefore
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		t.IPAddresses = []net.IP{addr.AsSlice()}
	} else {
		t.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, a.key.Public(), a.pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: bracketed(host), CurrentTime: now}); err != nil {
		return nil, fmt.Errorf("the CA may not sign for %s: %w", host, err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, a.pair.Certificate...), PrivateKey: a.key, Leaf: leaf}, nil
}

// bracketed is a host as x509 takes it: addresses in brackets.
func bracketed(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return "[" + host + "]"
	}
	return host
}

// name64 is what fits into a common name (RFC 5280, ub-common-name).
func name64(host string) string {
	if len(host) > 64 {
		return ""
	}
	return host
}
