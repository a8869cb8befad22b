//go:build linux

// Package origin is the server side of a benchmark: a bare epoll loop on one
// thread with answers that are ready before they are asked for.
//
// The HTTP port answers GET /1k and /1m, in origin and absolute form. The raw port
// does what the first 16 bytes of a connection say: E sends them back, and so all
// messages that follow; D with a number sends so many bytes; U with a number takes
// so many bytes and then sends the command back. The fault ports answer an HTTP
// request with a reset, with half of a body, or late.
package origin

import (
	"bytes"
	"encoding/json"
	"net"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/bench/raw"
)

// Port is what a port does.
type Port int

// The ports, in the order in which Run wants their listeners.
const (
	HTTP   Port = iota
	Raw         // exchanges and bulk
	Reset       // takes a request, and resets
	Broken      // sends half of the body, and ends
	Slow        // answers after SlowAnswer
	Ports       // how many there are
)

// SlowAnswer is how late the slow port answers.
const SlowAnswer = 200 * time.Millisecond

// Sizes of the bodies.
const (
	SizeSmall = 1 << 10
	SizeLarge = 1 << 20
)

const (
	messageSize = 16
	listenBase  = 1 << 30 // event numbers from here are listeners
	control     = listenBase + int(Ports)
)

// Counts is what the origin saw.
type Counts struct {
	Accepted, Requests, Messages int
	Bytes                        int64 // of bulk
	Open                         int   // connections
}

// conn is one connection, found by its descriptor.
type conn struct {
	port  Port
	open  bool
	close bool   // after what is to be written
	part  []byte // the beginning of a request or message
	out   []byte // still to be written
	left  int64  // of bulk; positive: to send, negative: to take
	reply [messageSize]byte
}

type server struct {
	poll      *raw.Poll
	listeners []int
	conns     []conn
	in        []byte
	small     answers
	large     answers
	bulk      []byte
	counts    Counts
	slow      []late
}

// answers are one body with its heads.
type answers struct{ keep, last []byte }

// late is an answer of the slow port.
type late struct {
	fd int
	at time.Time
}

func newAnswers(size int) answers {
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	head := "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 08:00:00 GMT\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\nContent-Length: " + strconv.Itoa(size) + "\r\n"
	return answers{
		keep: append([]byte(head+"\r\n"), body...),
		last: append([]byte(head+"Connection: close\r\n\r\n"), body...),
	}
}

// Run serves on listeners, one for each [Port], until the control descriptor ends.
// For each line that comes there it writes Counts as JSON.
func Run(listeners []*net.TCPListener, controlIn int, controlOut func([]byte)) error {
	debug.SetGCPercent(-1)
	poll, err := raw.NewPoll()
	if err != nil {
		return err
	}
	s := &server{
		poll: poll, in: make([]byte, 1<<20), conns: make([]conn, 1<<16), bulk: make([]byte, 1<<20),
		small: newAnswers(SizeSmall), large: newAnswers(SizeLarge),
	}
	for i, l := range listeners {
		f, err := l.File()
		if err != nil {
			return err
		}
		fd := int(f.Fd())
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		raw.NoDelay(fd) // accepted connections inherit it
		if errno := poll.AddLevel(fd, listenBase+i); errno != 0 {
			return errno
		}
		s.listeners = append(s.listeners, fd)
	}
	if errno := poll.AddLevel(controlIn, control); errno != 0 {
		return errno
	}
	for {
		for _, ev := range poll.Wait(s.wait()) {
			switch n := int(ev.Fd); {
			case n == control:
				// Nobody asks again before the answer: this is one line.
				if m, errno := raw.Read(controlIn, s.in[:256]); m == 0 || errno != 0 {
					return nil
				}
				b, _ := json.Marshal(s.counts)
				controlOut(append(b, '\n'))
			case n >= listenBase:
				s.accept(Port(n - listenBase))
			default:
				s.advance(n)
			}
		}
	}
}

func (s *server) accept(p Port) {
	for range 64 {
		fd, errno := raw.Accept(s.listeners[p])
		if errno != 0 {
			return
		}
		if fd >= len(s.conns) {
			raw.Close(fd)
			return
		}
		s.counts.Accepted++
		s.counts.Open++
		s.conns[fd] = conn{port: p, open: true, part: s.conns[fd].part[:0]}
		s.poll.Add(fd, fd)
		s.advance(fd)
	}
}

func (s *server) end(fd int) {
	raw.Close(fd)
	s.gone(fd)
}

func (s *server) reset(fd int) {
	raw.Reset(fd)
	s.gone(fd)
}

func (s *server) gone(fd int) {
	s.conns[fd].open = false
	s.counts.Open--
}

// wait is how long nothing is due, and does what is.
func (s *server) wait() time.Duration {
	for len(s.slow) > 0 {
		l := s.slow[0]
		if d := time.Until(l.at); d > 0 {
			return d
		}
		s.slow = s.slow[1:]
		if c := &s.conns[l.fd]; c.open && c.port == Slow {
			c.out = s.small.keep
			s.advance(l.fd)
		}
	}
	return -1
}

// advance goes on with a connection as far as the kernel lets it.
func (s *server) advance(fd int) {
	c := &s.conns[fd]
	for c.open {
		if len(c.out) > 0 {
			n, errno := raw.Write(fd, c.out)
			if errno == unix.EAGAIN {
				return
			}
			if errno != 0 {
				s.end(fd)
				return
			}
			if c.out = c.out[n:]; len(c.out) > 0 {
				return
			}
			if c.close {
				s.end(fd)
				return
			}
		}
		if c.left != 0 {
			if !s.move(fd, c) {
				return
			}
			continue
		}
		have := copy(s.in, c.part)
		n, errno := raw.Read(fd, s.in[have:have+64<<10])
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			s.end(fd)
			return
		}
		b := s.in[:have+n]
		c.part = c.part[:0]
		if c.port == Raw {
			s.command(c, b)
		} else {
			s.request(fd, c, b)
		}
		if len(c.out) == 0 && c.left == 0 {
			return // what is here is short; the next edge brings the rest
		}
	}
}

// move sends or takes bulk, and reports whether it may go on.
func (s *server) move(fd int, c *conn) bool {
	var n int
	var errno unix.Errno
	if c.left > 0 {
		n, errno = raw.Write(fd, s.bulk[:min(c.left, 256<<10)])
	} else {
		n, errno = raw.Discard(fd, s.bulk, int(min(-c.left, int64(len(s.bulk)))))
		if errno == 0 && n == 0 {
			errno = unix.ECONNRESET
		}
	}
	if errno == unix.EAGAIN {
		return false
	}
	if errno != 0 {
		s.end(fd)
		return false
	}
	s.counts.Bytes += int64(n)
	if c.left > 0 {
		c.left -= int64(n)
	} else if c.left += int64(n); c.left == 0 {
		c.out = c.reply[:]
	}
	return true
}
