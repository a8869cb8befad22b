//go:build linux

// Package secure is the origin and the load generator of a benchmark for what goes by TLS, where
// crypto/tls does the work: they cost more than those of their kinds for plain connections, so that
// processor time of the proxy is what tells, and not the rate.
package secure

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files that WriteAuthorities writes.
const (
	ProxyCert  = "proxy-ca.crt" // of the authority that proxies sign by, which clients trust
	ProxyKey   = "proxy-ca.key"
	ProxyBoth  = "proxy-ca.pem"  // both of it, the key first
	OriginCert = "origin-ca.crt" // of the authority of the origin, which proxies trust
	originKey  = "origin-ca.key"
)

// WriteAuthorities makes the authorities of a run, in a folder.
func WriteAuthorities(dir string) error {
	for _, a := range [][2]string{{ProxyCert, ProxyKey}, {OriginCert, originKey}} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		template := certificate(a[0])
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return err
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
		files := map[string][]byte{a[0]: certPEM, a[1]: keyPEM}
		if a[0] == ProxyCert {
			files[ProxyBoth] = append(keyPEM, certPEM...)
		}
		for name, text := range files {
			// Some proxies give up root before they read it. It is nobody's secret.
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

// issuer makes the certificates of the origin.
type issuer struct {
	ca  tls.Certificate
	key *ecdsa.PrivateKey // of all of them
}

func newIssuer(dir string) (*issuer, error) {
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, OriginCert), filepath.Join(dir, originKey))
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &issuer{ca, key}, err
}

// of is the certificate of an address.
func (i *issuer) of(ip net.IP) (*tls.Certificate, error) {
	template := certificate("origin")
	template.IPAddresses = []net.IP{ip}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, i.ca.Leaf, i.key.Public(), i.ca.PrivateKey)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}, err
}
