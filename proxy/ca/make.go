package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"time"
)

func newInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// Make returns the certificate and the key, as PEM, of a new CA that can sign for names, those
// below them, and addresses of the prefixes, and for nothing else: its name constraints (RFC 5280
// section 4.2.1.10) say so to every client. It is valid until then.
func Make(subject string, names []string, prefixes []netip.Prefix, until time.Time) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] &= 0x7f
	t := &x509.Certificate{
		SerialNumber:                newInt(serial),
		Subject:                     pkix.Name{CommonName: subject},
		NotBefore:                   time.Now().Add(-early),
		NotAfter:                    until,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         names,
		PermittedEmailAddresses:     []string{"invalid"},
		PermittedURIDomains:         []string{"invalid"},
	}
	if len(names) == 0 { // constraints hold for each kind of name by itself: none is any
		t.PermittedDNSDomains = []string{"invalid"}
	}
	for _, p := range prefixes {
		t.PermittedIPRanges = append(t.PermittedIPRanges, ipNet(p))
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		p := netip.MustParsePrefix(all)
		if !anyOf(prefixes, p.Addr().Is4()) {
			t.ExcludedIPRanges = append(t.ExcludedIPRanges, ipNet(p))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), nil
}

func anyOf(prefixes []netip.Prefix, four bool) bool {
	for _, p := range prefixes {
		if p.Addr().Is4() == four {
			return true
		}
	}
	return false
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
