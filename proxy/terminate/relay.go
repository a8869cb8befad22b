package terminate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/proxyheader"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// lingerTime is for how long the end of a client is waited for whose front door has closed, or
// whose handshake has failed.
const lingerTime = 2 * time.Second

// relay carries the bytes of one client:
//
//	client ══ TLS ══ secure │ plain ── pair ── front door
//
// Ends come across as they are. close_notify is the end of the half (RFC 8446 section 6.1), in both directions;
// a connection that ends without is cut, and so the front door sees a reset, and a client whom
// the front door has reset sees no close_notify.
type relay struct {
	t      *Terminator
	c      *Client
	raw    *patient // of the client
	plain  *patient // near end of the pair
	turn   *turn    // raw, as secure has it
	secure *tls.Conn
	opened atomic.Bool // the handshake is over
	closed atomic.Bool // the front door has closed, and the client has been told
	early  []byte      // a PROXY header, which goes in front
	until  time.Time   // when the handshake must be over
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// newRelay is the relay of a client that has just connected.
func newRelay(t *Terminator, c *Client, raw, plain sock.Blocking) *relay {
	r := &relay{t: t, c: c, raw: &patient{Blocking: raw, grace: takeTime}, plain: &patient{Blocking: plain}}
	r.raw.other, r.plain.other = r.plain, r.raw
	r.raw.late = &c.late
	return r
}

// run returns when both connections may be closed.
func (r *relay) run() {
	keys := r.t.keys.Load()
	if keys == nil {
		return
	}
	r.until = time.Now().Add(r.t.HandshakeTimeout)
	r.raw.SetDeadline(r.until)
	if announced := r.t.Announced; announced != nil && announced(r.c.from.Addr()) {
		if err := r.readHeader(); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) { // as of who looks whether the port is there
				r.t.refused(r.c.from, fmt.Errorf("%w, which must come first from this address: it is among --proxy-protocol-from", err))
			}
			return
		}
	}
	r.turn = &turn{Conn: r.raw, t: r.t, client: r.client(), there: r.there}
	r.secure = tls.Server(r.turn, keys.config)
	var down sync.WaitGroup
	down.Go(func() {
		defer r.t.Report.Recover(r.abort)
		r.down()
	})
	defer down.Wait()
	defer r.t.Report.Recover(r.abort)
	r.up(keys)
}

// abort ends both connections by a reset.
func (r *relay) abort() {
	for _, c := range []*patient{r.raw, r.plain} {
		c.ResetOnClose()
		c.Close()
	}
}

// up carries what the client sends, after the handshake.
func (r *relay) up(keys *Keys) {
	if err := r.handshake(keys); err != nil {
		if r.raw.any.Load() && !errors.Is(err, net.ErrClosed) { // else it has said nothing, or has given way
			r.t.refused(r.c.from, told(err))
		}
		r.plain.ResetOnClose()
		r.plain.Close()
		r.explain(err)
		return
	}
	_, err := r.plain.Write(r.early)
	for err == nil {
		err = r.move()
	}
	switch _, notTaken := errors.AsType[notTaken](err); {
	case err == io.EOF && !r.raw.ended: // or crypto/tls takes an end at a record's for close_notify
		r.plain.CloseWrite()
	case notTaken: // what has come of it before may be on its way
		r.discard(r.secure)
	case !r.closed.Load(): // without close_notify: it is not the whole
		r.abort()
	}
}

// handshake does that.
func (r *relay) handshake(keys *Keys) error {
	failed := true
	defer func() { r.turn.end(failed) }()
	if err := r.secure.Handshake(); err != nil {
		return err
	}
	failed = false
	r.t.show(r.c, r.secure.ConnectionState(), keys)
	r.raw.SetDeadline(time.Time{})
	r.opened.Store(true)
	return nil
}

// client is who has come, or who is said to have by a balancer.
func (r *relay) client() Account {
	if r.early != nil {
		if said, _, err := proxyheader.Parse(r.early); err == nil && said.IsValid() {
			return Account{Addr: said.Addr().Unmap()}
		}
	}
	return Account{Addr: r.c.from.Addr().Unmap()}
}

// there is for as long as the client may wait in its handshake: until its time is over, it has ended
// its half, by which it can't go on, or somebody has closed the connection here.
func (r *relay) there() (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancel(r.t.ctx)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		defer cancel()
		defer r.t.Report.Recover(r.abort)
		r.raw.ReadWhenReady(func(fd uintptr) bool { return sock.Ended(int(fd)) })
	}()
	return ctx, func() {
		r.raw.SetReadDeadline(time.Unix(1, 0))
		<-looked
		r.raw.SetReadDeadline(r.until)
	}
}

// inPlain is for clients that have sent a request where a handshake must be.
const inPlain = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
	"This port of the proxy is for TLS: write https:// in front of its name, or use the port for plain clients.\n"

// announcedToo is for those who begin with a PROXY header, and are not to.
const announcedToo = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
	"A PROXY protocol header, and this address is not among --proxy-protocol-from.\n"

// errAnnounced says so.
var errAnnounced = errors.New("a PROXY protocol header, and this address is not among --proxy-protocol-from")

// told is err in words of the settings, where it is about those.
func told(err error) error {
	if bad, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		switch string(bad.RecordHeader[:]) {
		case "PROXY", "\r\n\r\n\x00":
			return errAnnounced
		}
	}
	return err
}

// explain ends a connection whose handshake has failed so that the client gets the alert.
func (r *relay) explain(err error) {
	r.raw.SetDeadline(time.Now().Add(lingerTime))
	bad, ok := errors.AsType[tls.RecordHeaderError](err)
	switch ok = ok && bad.Conn != nil; {
	case ok && told(err) == errAnnounced:
		r.raw.Blocking.Write([]byte(announcedToo))
	case ok && LooksLikeHTTP(bad.RecordHeader):
		r.raw.Blocking.Write([]byte(inPlain))
	}
	r.raw.CloseWrite()
	r.discard(r.raw)
}

// LooksLikeHTTP reports whether a request begins so: with a method, of three capitals at least.
func LooksLikeHTTP(b [5]byte) bool {
	for _, c := range b[:3] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// notTaken is an error of writing to the front door.
type notTaken struct{ error }

// move moves what comes next. While it waits it holds no buffer but a little on the stack,
// which most requests fit into.
func (r *relay) move() error {
	var little [1 << 10]byte
	n, err := r.secure.Read(little[:])
	for b := little[:]; n > 0; {
		if _, err := r.plain.Write(b[:n]); err != nil {
			return notTaken{err}
		}
		if err != nil || n < len(b) {
			return err
		}
		if len(b) == len(little) { // there is more
			big := buffers.Get().(*[32 << 10]byte)
			defer buffers.Put(big)
			b = big[:]
		}
		n, err = r.secure.Read(b)
	}
	return err
}

// discard waits for the end of a client of whom nobody takes more. Its answer may still be on
// the way.
func (r *relay) discard(from io.Reader) {
	var b [1 << 10]byte
	for {
		if _, err := from.Read(b[:]); err != nil {
			return
		}
	}
}

// down carries what the front door sends.
func (r *relay) down() {
	var big *[32 << 10]byte
	var n int
	var failed error
	try := func(fd uintptr) bool {
		big = buffers.Get().(*[32 << 10]byte)
		n, failed = r.plain.tryRead(int(fd), big[:])
		if failed != nil || n == 0 {
			buffers.Put(big)
		}
		return failed != unix.EAGAIN
	}
	for {
		switch err := r.plain.ReadWhenReady(try); {
		case errors.Is(err, net.ErrClosed): // by up, which ends the rest too
			return
		case err != nil, failed != nil:
			r.abort()
			return
		case n == 0:
			r.endDown()
			return
		}
		_, err := r.secure.Write(big[:n]) // by r.raw, which knows when it is late
		buffers.Put(big)
		if err != nil {
			r.abort()
			return
		}
	}
}

// endDown is called when the front door has ended its half. It returns when it has closed the
// whole.
func (r *relay) endDown() {
	if !r.opened.Load() { // the client has given way, or its time has passed
		r.raw.Close()
		return
	}
	r.secure.CloseWrite()
	r.plain.ReadWhenReady(func(fd uintptr) bool { return sock.HungUp(int(fd)) })
	r.closed.Store(true)
	r.raw.CloseWrite()
	r.raw.SetReadDeadline(time.Now().Add(lingerTime))
}

// readHeader reads a PROXY header, and leaves what stands behind it.
func (r *relay) readHeader() error {
	var b []byte
	for {
		n, limit, err := proxyheader.Length(b)
		if err != nil {
			return err
		}
		if n > 0 && n <= len(b) {
			r.early, r.raw.read = b[:n:n], b[n:]
			return nil
		}
		more := make([]byte, min(512, limit-len(b)))
		got, err := r.raw.Blocking.Read(more)
		if err != nil {
			return err
		}
		b = append(b, more[:got]...)
	}
}
