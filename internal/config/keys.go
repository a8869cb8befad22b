package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/internal/settings"
)

// Keys are what clients are shown that come by TLS, and whom they may show to be.
type Keys struct {
	Certificate tls.Certificate
	ClientCAs   *x509.CertPool // nil: clients are asked for no certificate
}

func (p *Proxy) tlsSettings() []settings.Setting {
	return []settings.Setting{
		{Flag: "listen-tls", Key: "listenTLS", Value: "ADDR", List: true, Change: fixed,
			Help: "accept clients that speak TLS to the proxy at this address too; may be given several times",
			Into: settings.Many(&p.ListenTLS, settings.Listen)},
		{Flag: "tls-cert", Key: "tlsCert", Value: "FILE", Change: live,
			Help: "show them this certificate: PEM, with those that lead to its CA behind it"},
		{Flag: "tls-key", Key: "tlsKey", Value: "FILE", Change: live, Help: "its private key, as PEM"},
		{Flag: "client-ca", Key: "clientCA", Value: "FILE", List: true, Change: live,
			Help: "believe the certificates of clients that these CAs have signed (PEM)"},
		{Flag: "listen-socks", Key: "listenSOCKS", Value: "ADDR", List: true, Change: fixed,
			Help: "accept clients that speak SOCKS 5 at this address too; may be given several times",
			Into: settings.Many(&p.ListenSOCKS, settings.Listen)},
		{Flag: "proxy-protocol-from", Key: "proxyProtocolFrom", Value: "CIDR", List: true, Change: fixed,
			Help: "connections from these addresses begin with a PROXY protocol header, which says who the client is",
			Into: settings.Many(&p.ProxyProtocolFrom, parsePrefix)},
	}
}

// apart reports addresses that would have to listen for two kinds of clients.
func (p *Proxy) apart(l *settings.Loader, all []settings.Setting) {
	for _, addr := range p.ListenSOCKS {
		if portOf(addr) != "0" && (slices.Contains(p.Listen, addr) || slices.Contains(p.ListenTLS, addr)) {
			l.Report(l.At(settings.Pick(all, "listen-socks")).Problem(fmt.Sprintf("%s is where the proxy listens for clients of HTTP already", addr)))
		}
	}
}

// keys reads the files of what listens with TLS. It is nil when nothing does.
func (p *Proxy) keys(l *settings.Loader, all []settings.Setting) *Keys {
	pick := func(flag string) settings.Setting { return settings.Pick(all, flag) }
	cert, key := l.Values(pick("tls-cert")), l.Values(pick("tls-key"))
	if len(p.ListenTLS) == 0 {
		for _, flag := range []string{"tls-cert", "tls-key", "client-ca"} {
			if len(l.Values(pick(flag))) > 0 {
				l.Report(l.At(pick(flag)).Problem("nobody listens with it: name an address with listenTLS (--listen-tls)"))
			}
		}
		return nil
	}
	for _, addr := range p.ListenTLS {
		if portOf(addr) != "0" && slices.Contains(p.Listen, addr) {
			l.Report(l.At(pick("listen-tls")).Problem(fmt.Sprintf("%s is where the proxy listens without TLS already", addr)))
		}
	}
	if len(cert) == 0 || len(key) == 0 {
		l.Report(l.At(pick("listen-tls")).Problem("there is nothing to show clients: name the files of a certificate and its key (--tls-cert, --tls-key)"))
		return nil
	}
	k := &Keys{}
	certPath, certText, certOK := l.ReadFile(cert[0])
	keyPath, keyText, keyOK := l.ReadFile(key[0])
	if certOK && keyOK {
		var err error
		if err = certificates(certText); err != nil {
			l.Report(cert[0].Problem(fmt.Sprintf("%s %v", certPath, err)))
		} else if k.Certificate, err = tls.X509KeyPair(certText, keyText); err != nil {
			l.Report(cert[0].Problem(fmt.Sprintf("%s and %s are no certificate and its key: %v", certPath, keyPath, err)))
		} else if end := k.Certificate.Leaf.NotAfter; time.Now().After(end) {
			l.Warn(cert[0].Problem(fmt.Sprintf("%s has ended on %s: clients will not accept it", certPath, end.UTC().Format(time.DateOnly))))
		}
	}
	if pem := roots(l, pick("client-ca")); len(pem) > 0 {
		k.ClientCAs = x509.NewCertPool()
		k.ClientCAs.AppendCertsFromPEM(pem)
	}
	return k
}

// certificates reports what is wrong with a text of certificates in PEM form: one that was cut
// off has fewer than it was to have, and must not count as whole.
func certificates(text []byte) error {
	n := 0
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			switch {
			case bytes.Contains(rest, []byte("-----BEGIN")):
				return fmt.Errorf("is cut off, or damaged, behind certificate %d", n)
			case n == 0:
				return errors.New("holds no certificate in PEM form")
			}
			return nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d: %w", n, err)
		}
	}
}
