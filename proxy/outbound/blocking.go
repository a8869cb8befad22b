package outbound

import (
	"context"
	"crypto/tls"
	"fmt"
)

// Blocking is a Conn with the methods that wait for the server: not for an event loop.
type Blocking struct{ *Conn }

// Blocking is c as a goroutine of its own may use it.
func (c *Conn) Blocking() Blocking { return Blocking{c} }

// Read reads what the server sent, decrypted.
func (c Blocking) Read(b []byte) (int, error) {
	if c.TLS != nil {
		return c.TLS.Read(b)
	}
	return c.TCP.Blocking().Read(b)
}

// ReadHere reads what has come with what Read gave, if anything has: 0 and no error, if not.
func (c Blocking) ReadHere(b []byte) (int, error) {
	if c.TLS == nil {
		return 0, nil
	}
	n, err := c.readHere(b)
	if err == errNothing {
		err = nil
	}
	return n, err
}

// Write sends b to the server, encrypted if the connection is.
func (c Blocking) Write(b []byte) (int, error) {
	if c.TLS != nil {
		return c.TLS.Write(b)
	}
	return c.TCP.Blocking().Write(b)
}

// Wait waits until the handshake that BeginConnect began is over. On an error, an
// *Error, the connection is closed.
func (c Blocking) Wait(ctx context.Context) error {
	if err := c.TCP.Blocking().Wait(ctx); err != nil {
		return failed(c.Dst, err)
	}
	return nil
}

// Secure makes the connection a TLS one and verifies that the server is name, by
// roots (nil: those of the system). It offers those protocols (RFC 7301), or HTTP/1.1 alone. On an
// error, an *Error, the connection is closed.
func (c Blocking) Secure(ctx context.Context, name string, config *tls.Config, offer ...string) error {
	config = config.Clone()
	config.ServerName = name
	if config.NextProtos = offer; len(offer) == 0 {
		config.NextProtos = []string{"http/1.1"}
	}
	config.VerifyConnection = strong
	if cache := config.ClientSessionCache; cache != nil {
		config.ClientSessionCache = sessionsOf(c.Conn, cache)
	}
	asked := false
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return new(tls.Certificate), nil // none
	}
	c.TCP.Share() // ctx closes it beside the handshake, and a session has others than who makes it
	c.records = &records{Blocking: c.TCP.Blocking()}
	t := tls.Client(c.records, config)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		err = fmt.Errorf("TLS with %s: %w", name, err)
		if asked {
			err = fmt.Errorf("%w; %w", err, ErrClientCertificate)
		}
		e := dialError(err)
		if e.Kind == ConnectionFailed {
			e.Kind = TLSFailed
		}
		return e
	}
	c.TLS, c.server = t, name
	return nil
}

// BlockingGate is a Gate with what waits for the resolver or a server: not for an event loop.
type BlockingGate struct{ *Gate }

// Blocking is g as a goroutine of its own may use it.
func (g *Gate) Blocking() BlockingGate { return BlockingGate{g} }
