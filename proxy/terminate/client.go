package terminate

import (
	"crypto/x509"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/auth"
)

// Client is one that has come by TLS. Its methods may be called concurrently, and on nil,
// which is a client that came in plain.
type Client struct {
	from  netip.AddrPort
	shown atomic.Pointer[shown] // nil: no certificate, or none that stands any more
}

// shown is the certificate that a client has shown in its handshake.
type shown struct {
	chain    []*x509.Certificate // as the client has sent it
	until    time.Time           // from then on it does not stand
	identity *auth.Identity
}

// From is the peer of the client's connection.
func (c *Client) From() netip.AddrPort { return c.from }

// Certificate is who the client has shown to be by its certificate; nil: nobody, or that has
// ended since, or its CA is not trusted any more. It does not allocate.
func (c *Client) Certificate() *auth.Identity {
	if c == nil {
		return nil
	}
	s := c.shown.Load()
	if s == nil || time.Now().After(s.until) {
		return nil
	}
	return s.identity
}

// show takes down what the client has shown: verified are the chains that lead from its
// certificate to a CA, which the handshake has found.
func (c *Client) show(chain []*x509.Certificate, verified [][]*x509.Certificate) {
	identity := auth.NewCertificate(chain...)
	if identity == nil || len(verified) == 0 {
		return
	}
	c.shown.Store(&shown{chain: chain, until: lastEnd(verified), identity: identity})
}

// lastEnd is until when one of the chains stands: each as long as all of its certificates do.
func lastEnd(chains [][]*x509.Certificate) (last time.Time) {
	for _, chain := range chains {
		end := chain[0].NotAfter
		for _, cert := range chain {
			if cert.NotAfter.Before(end) {
				end = cert.NotAfter
			}
		}
		if end.After(last) {
			last = end
		}
	}
	return last
}

// judge drops what the client has shown unless it leads to one of the CAs.
func (c *Client) judge(cas *x509.CertPool) {
	s := c.shown.Load()
	if s == nil {
		return
	}
	if cas == nil {
		c.shown.Store(nil)
		return
	}
	between := x509.NewCertPool()
	for _, cert := range s.chain[1:] {
		between.AddCert(cert)
	}
	verified, err := s.chain[0].Verify(x509.VerifyOptions{Roots: cas, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		c.shown.Store(nil)
		return
	}
	c.shown.Store(&shown{chain: s.chain, until: lastEnd(verified), identity: s.identity})
}
