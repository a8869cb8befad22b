//go:build linux

package load

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/bench/raw"
)

// advance goes on with a connection as far as the kernel lets it.
func (e *engine) advance(c *conn) {
	for {
		if c.phase == closed {
			return // an event of a descriptor that has been closed since
		}
		if len(c.out) > 0 && !e.flush(c) {
			return
		}
		more := false
		switch c.phase {
		case greeting:
			if more = e.readExactly(c, e.job.Greeted); more {
				e.ask(c)
			}
		case tunnel:
			if len(e.job.Answered) == 0 {
				more = e.readHead(c)
			} else if more = e.readExactly(c, e.job.Answered); more {
				e.say(c)
			}
		case answer:
			more = e.readHead(c)
		case body, down:
			more = e.discard(c)
		case up:
			more = e.fill(c)
		case echo:
			more = e.readEcho(c)
		case idle, held:
			e.readNothing(c)
		}
		if !more {
			return
		}
	}
}

// flush reports whether all has been written.
func (e *engine) flush(c *conn) bool {
	n, errno := raw.Write(c.fd, c.out)
	switch errno {
	case 0:
		c.out = c.out[n:]
		return len(c.out) == 0
	case unix.EAGAIN:
		return false
	}
	e.hungUp(c, "write: "+errno.Error())
	return false
}

// read reads into the common buffer behind what is there of a head. It returns
// nothing when there is nothing to read, or the connection has ended.
func (e *engine) read(c *conn, limit int) []byte {
	have := copy(e.in, c.part)
	n, errno := raw.Read(c.fd, e.in[have:min(have+limit, len(e.in))])
	switch {
	case errno == unix.EAGAIN:
		return nil
	case errno != 0:
		e.hungUp(c, "read: "+errno.Error())
		return nil
	case n == 0:
		e.hungUp(c, "closed too early")
		return nil
	}
	return e.in[:have+n]
}

// readHead reads a head, and whatever came with it.
func (e *engine) readHead(c *conn) bool {
	b := e.read(c, 64<<10)
	if b == nil {
		return false
	}
	h, n, err := parseHead(b)
	if err == errShort {
		c.part = append(c.part[:0], b...)
		return true
	}
	c.part = c.part[:0]
	if err != nil {
		e.fail(c, err.Error())
		return false
	}
	rest := int64(len(b) - n)
	if c.phase == tunnel {
		if h.status != 200 || rest > 0 {
			e.fail(c, fmt.Sprintf("CONNECT: status %d, %d bytes after the head: %q", h.status, rest, b[:min(len(b), 300)]))
			return false
		}
		e.say(c)
		return true
	}
	switch {
	case h.status != c.req.Status:
		e.fail(c, fmt.Sprintf("status %d, not %d: %q", h.status, c.req.Status, b[:min(len(b), 300)]))
		return false
	case h.length < 0:
		e.fail(c, "an answer without a length")
		return false
	case c.req.Length >= 0 && h.length != c.req.Length:
		e.fail(c, fmt.Sprintf("a body of %d bytes, not %d", h.length, c.req.Length))
		return false
	case rest > h.length:
		e.fail(c, "bytes after the body")
		return false
	}
	if e.job.Kind == Quit {
		raw.Reset(c.fd)
		c.fd = -1
		e.done(c)
		return false
	}
	c.last, c.left, c.phase = h.last, h.length-rest, body
	e.count(rest)
	if c.left == 0 {
		e.finish(c)
		return false
	}
	return true
}

// finish ends an answer that is whole.
func (e *engine) finish(c *conn) {
	if c.req.Broken {
		e.fail(c, "an answer that should have broken off")
		return
	}
	e.done(c)
}

// discard takes bytes that are only counted.
func (e *engine) discard(c *conn) bool {
	n, errno := raw.Discard(c.fd, e.bulk, int(min(c.left, bufferSize)))
	switch {
	case errno == unix.EAGAIN:
		return false
	case errno != 0:
		e.hungUp(c, "read: "+errno.Error())
		return false
	case n == 0:
		e.hungUp(c, fmt.Sprintf("%d bytes are missing", c.left))
		return false
	}
	c.left -= int64(n)
	e.count(int64(n))
	if c.left > 0 {
		return true
	}
	if c.phase == body {
		e.finish(c)
	} else {
		e.done(c)
	}
	return false
}

// fill sends bulk, and after it waits for the origin's word that all arrived.
func (e *engine) fill(c *conn) bool {
	n, errno := raw.Write(c.fd, e.bulk[:min(c.left, 256<<10)])
	switch errno {
	case 0:
	case unix.EAGAIN:
		return false
	default:
		e.fail(c, "write: "+errno.Error())
		return false
	}
	c.left -= int64(n)
	e.count(int64(n))
	if c.left == 0 {
		c.phase, c.left = echo, MessageSize
	}
	return true
}

func (e *engine) count(n int64) {
	if e.counting {
		e.res.Bytes += n
	}
}

// readEcho reads the message that comes back.
func (e *engine) readEcho(c *conn) bool {
	if e.readExactly(c, e.message[:MessageSize]) {
		e.done(c)
	}
	return false
}

// readExactly reports whether that has come whole. Anything else is a fault.
func (e *engine) readExactly(c *conn, want []byte) bool {
	for {
		b := e.read(c, len(want)-len(c.part))
		switch {
		case b == nil:
			return false
		case len(b) < len(want):
			c.part = append(c.part[:0], b...)
			continue
		}
		c.part = c.part[:0]
		if !bytes.Equal(b, want) {
			e.fail(c, fmt.Sprintf("%q came back, not %q", b, want))
			return false
		}
		return true
	}
}

// readNothing looks at a connection at rest: it may only end.
func (e *engine) readNothing(c *conn) {
	n, errno := raw.Read(c.fd, e.in[:1])
	switch {
	case errno == unix.EAGAIN:
		return
	case errno == 0 && n > 0:
		e.res.Errors["bytes that nobody asked for"]++
	case c.phase == held:
		e.res.Errors["a connection at rest was closed"]++
	default:
		e.res.Reopened++
	}
	// Its number stays where it is, among the free: the next work dials anew.
	e.close(c)
}
