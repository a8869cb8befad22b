package terminate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
)

// turn is a client's connection as its handshake has it. A key exchange and a signature take a
// processor for a third of a millisecond, which costs whoever asks for it next to nothing; so that a
// client who floods the proxy with hellos keeps nobody else waiting, a part of the processors at most does
// that at a time, and the others wait for their turn. It has its turn from the hello to when it sends or
// waits for something next, so that no client can hold it.
type turn struct {
	net.Conn
	t      *Terminator
	client Account                                   // who begins it
	there  func() (ctx context.Context, done func()) // for as long as the client is, see shares
	has    bool
	begun  bool   // its hello was read
	again  bool   // it was asked for another, behind which comes what costs something
	as     *share // see shares
}

// errFlood ends a handshake that had to wait and whose client has gone meanwhile.
var errFlood = errors.New("this client has begun too many handshakes: it had to wait, and has gone meanwhile")

// take waits until the connection may go on, and for its turn, when its hello has been read. It is what
// [tls.Config.GetConfigForClient] takes.
func take(h *tls.ClientHelloInfo) (*tls.Config, error) {
	c, ok := h.Conn.(*turn)
	if !ok || c.begun {
		return nil, nil
	}
	var err error
	if c.as, err = c.t.shares.begin(c.client, c.t.FloodWait, c.waits); err != nil {
		return nil, err
	}
	c.begun = true
	c.t.turns <- struct{}{}
	c.has = true
	return nil, nil
}

// waits is for as long as the client is there while it waits.
func (c *turn) waits() (ctx context.Context, done func()) {
	if c.t.Waits != nil {
		c.t.Waits()
	}
	return c.there()
}

// give ends the turn.
func (c *turn) give() {
	if c.has {
		c.has = false
		<-c.t.turns
	}
}

// end ends the handshake.
func (c *turn) end(failed bool) {
	c.give()
	c.t.shares.end(c.client, c.as, failed)
}

func (c *turn) Read(b []byte) (int, error) {
	c.give()
	n, err := c.Conn.Read(b)
	if c.again && n > 0 {
		c.t.turns <- struct{}{}
		c.has = true
	}
	return n, err
}

func (c *turn) Write(b []byte) (int, error) {
	if c.has {
		c.again = false
	}
	c.give()
	if asksAgain(b) {
		c.again = true
	}
	return c.Conn.Write(b)
}

// retryRandom is by what a ServerHello is a HelloRetryRequest (RFC 8446 section 4.1.3).
var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

// asksAgain reports whether a record is one that asks for another hello, which takes crypto/tls no
// effort, and is told of by nothing else.
func asksAgain(b []byte) bool {
	const handshake, serverHello, random = 22, 2, 5 + 4 + 2 // behind the heads of record and message, and the version
	return len(b) >= random+len(retryRandom) && b[0] == handshake && b[5] == serverHello && bytes.Equal(b[random:][:len(retryRandom)], retryRandom[:])
}

// Shake does the handshake that the client on c begins, in its turn, and returns the gateway's end. c is
// the caller's to close, and to bound in time; there is called when the client has to wait for others
// of its own, and its context ends that: done is called when it is over.
func (t *Terminator) Shake(c net.Conn, k *Keys, client Account, there func() (ctx context.Context, done func())) (*tls.Conn, error) {
	turn := &turn{Conn: c, t: t, client: client, there: there}
	failed := true
	defer func() { turn.end(failed) }()
	s := tls.Server(turn, k.config)
	err := s.Handshake()
	failed = err != nil
	return s, err
}
