package terminate

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Client is one that has come by TLS. Its methods may be called concurrently, and on nil,
// which is a client that came in plain.
type Client struct {
	from  netip.AddrPort
	shown atomic.Pointer[shown] // nil: no certificate, or none that stands any more

	conn     *sock.Conn
	near     atomic.Pointer[sock.Conn] // of the pair; nil: not yet
	budget   *fdbudget.Budget
	wasCut   atomic.Bool
	released atomic.Bool  // the descriptors were given back
	late     atomic.Int64 // since when the front door is done with it, in ns; 0: it is not
}

// release gives the descriptors back, once.
func (c *Client) release() {
	if !c.released.Swap(true) {
		c.budget.Give(descriptors)
	}
}

// cut ends the connections, and reports whether that has freed their descriptors: by itself, or by having
// whoever serves them give them back.
func (c *Client) cut() bool {
	first := !c.released.Load() && !c.wasCut.Swap(true)
	for _, end := range []*sock.Conn{c.conn, c.near.Load()} {
		if end != nil {
			end.ResetOnClose()
			end.Close()
		}
	}
	c.release()
	return first
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

// show takes down what the client has shown, which counts once judge has found that it stands.
func (c *Client) show(chain []*x509.Certificate) {
	if identity := auth.NewCertificate(chain...); identity != nil {
		c.shown.Store(&shown{chain: chain, identity: identity}) // ended: until is zero
	}
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

// judge drops what the client has shown unless it leads to one of the CAs; nil: there are none.
func (c *Client) judge(cas *x509.CertPool) {
	s := c.shown.Load()
	if s == nil {
		return
	}
	if cas == nil {
		c.shown.Store(nil)
		return
	}
	verified, err := verify(s.chain, cas)
	if err != nil {
		c.shown.Store(nil)
		return
	}
	c.shown.Store(&shown{chain: s.chain, until: lastEnd(verified), identity: s.identity})
}

// chainMost bounds the certificates that a client may show. Ten times as many of one name,
// each signed by all others, cost a processor 50 ms, whoever has made them.
const chainMost = 5

// verifying are places for those whose certificates are verified.
var verifying = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))

// verify returns the ways from a client's certificate to one of the CAs.
func verify(chain []*x509.Certificate, cas *x509.CertPool) ([][]*x509.Certificate, error) {
	if len(chain) > chainMost {
		return nil, fmt.Errorf("%d certificates; a client may show %d", len(chain), chainMost)
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	verifying <- struct{}{}
	defer func() { <-verifying }()
	return chain[0].Verify(x509.VerifyOptions{Roots: cas, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}
