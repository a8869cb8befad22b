package terminate

import (
	"crypto/tls"
	"net"
)

// turn is a client's connection as its handshake has it. A key exchange and a signature take a
// processor for a third of a millisecond, which costs whoever asks for it next to nothing; so that a
// client who floods the proxy with hellos keeps nobody else waiting, a part of the processors at most does
// that at a time, and the others wait for their turn. It has its turn from the hello to when it sends or
// waits for something next, so that no client can hold it.
type turn struct {
	net.Conn
	turns chan struct{}
	has   bool
}

// take waits for the connection's turn, when its hello has been read. It is what
// [tls.Config.GetConfigForClient] takes.
func take(h *tls.ClientHelloInfo) (*tls.Config, error) {
	if c, ok := h.Conn.(*turn); ok && !c.has {
		c.turns <- struct{}{}
		c.has = true
	}
	return nil, nil
}

// give ends the turn.
func (c *turn) give() {
	if c.has {
		c.has = false
		<-c.turns
	}
}

func (c *turn) Read(b []byte) (int, error) {
	c.give()
	return c.Conn.Read(b)
}

func (c *turn) Write(b []byte) (int, error) {
	c.give()
	return c.Conn.Write(b)
}

// Shake does the handshake that the client on c begins, in its turn, and returns the gateway's end. c is
// the caller's to close, and to bound in time.
func (t *Terminator) Shake(c net.Conn, k *Keys) (*tls.Conn, error) {
	turn := &turn{Conn: c, turns: t.turns}
	defer turn.give()
	s := tls.Server(turn, k.config)
	return s, s.Handshake()
}
