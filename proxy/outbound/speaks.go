package outbound

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// SpeaksOther reports whether Secure may have failed since the server speaks none of what it was
// offered: it has refused, and nothing says that it wants something else. There is an alert for that
// (RFC 7301 section 3.2), and servers that say another, or nothing.
func SpeaksOther(err error) bool {
	if errors.Is(err, ErrClientCertificate) {
		return false
	}
	remote, ok := errors.AsType[*net.OpError](err)
	return ok && remote.Op == "remote error" || dialError(err).Kind == TLSFailed &&
		(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// ChoseNone reports whether the server has chosen none of the protocols that it was offered: it
// speaks HTTP/1.1, or takes HTTP/2 for granted.
func (c *Conn) ChoseNone() bool {
	return c.TLS != nil && c.TLS.ConnectionState().NegotiatedProtocol == ""
}

// choosers remembers servers that have chosen none, so that the next client need not find out. It is a
// hint, by which nothing but the offer changes. The zero choosers is ready for use.
type choosers struct {
	mu   sync.Mutex
	none map[poolKey]bool
}

// choosersMost bounds what is remembered; then all is forgotten.
const choosersMost = 1024

// ChoosesNone reports whether the server of c, if it is that, has chosen none of the protocols
// before that it was offered. It may be called concurrently.
func (p *Pool) ChoosesNone(c *Conn, server string) bool {
	key := c.key()
	key.server = server
	p.choosers.mu.Lock()
	defer p.choosers.mu.Unlock()
	return p.choosers.none[key]
}

// NoteChoosesNone takes down that the server of c has. It may be called concurrently.
func (p *Pool) NoteChoosesNone(c *Conn) {
	p.choosers.mu.Lock()
	defer p.choosers.mu.Unlock()
	if len(p.choosers.none) >= choosersMost || p.choosers.none == nil {
		p.choosers.none = map[poolKey]bool{}
	}
	p.choosers.none[c.key()] = true
}
