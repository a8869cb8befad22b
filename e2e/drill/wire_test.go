package drill

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// wrong is an error that no end of a connection excuses.
type wrong struct{ error }

func wrongf(format string, args ...any) error { return wrong{fmt.Errorf(format, args...)} }

func isWrong(err error) bool { return errors.As(err, new(wrong)) }

// isReset reports whether the other side has reset the connection.
func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }

// piecewise writes in pieces as a plan says: 0 as few as may be, 1 some, 2 many. flush
// writes what is left.
type piecewise struct {
	w      io.Writer
	pieces int
	r      *rand.Rand
	buf    []byte
	next   int // size of the piece
	sent   int
	keeps  bool // the last byte until finish, since more is to come with it
}

func (p *piecewise) draw() {
	most := 64 << 10
	switch {
	case p.pieces == 0:
		p.next = 256 << 10
		return
	case p.sent == 0:
		most = 300
	case p.pieces == 2 && p.sent < 2000:
		most = 200
	case p.pieces == 2:
		most = 20 << 10
	}
	p.next = 1 + p.r.IntN(most)
}

func (p *piecewise) Write(b []byte) (int, error) {
	all := len(b)
	for len(b) > 0 {
		if p.next == 0 {
			p.draw()
		}
		n := min(len(b), p.next-len(p.buf))
		p.buf, b = append(p.buf, b[:n]...), b[n:]
		if len(p.buf) == p.next {
			if err := p.flush(); err != nil {
				return 0, err
			}
			if p.pieces > 0 && p.sent < 100<<10 && oneIn(p.r, 3) {
				pause(time.Duration(p.r.IntN(2000)) * time.Microsecond)
			} else {
				runtime.Gosched()
			}
		}
	}
	return all, nil
}

// pause waits for nothing: it is part of the load that pieces come apart in time, by as
// much as their plan draws.
func pause(d time.Duration) { <-time.After(d) }

func (p *piecewise) flush() error {
	n := len(p.buf)
	if p.keeps {
		n--
	}
	p.next = 0
	if n <= 0 {
		return nil
	}
	_, err := p.w.Write(p.buf[:n])
	p.sent += n
	p.buf = append(p.buf[:0], p.buf[n:]...)
	return err
}

// finish writes what is left, and b with the last byte of it: over TLS in one record,
// so that nobody has the one without the other.
func (p *piecewise) finish(b []byte) error {
	if err := p.flush(); err != nil {
		return err
	}
	p.keeps = false
	p.buf = append(p.buf, b...)
	return p.flush()
}

var rooms = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// send writes the bytes of s from off to end.
func (s stream) send(w io.Writer, off, end int64) error {
	room := rooms.Get().(*[64 << 10]byte)
	defer rooms.Put(room)
	for off < end {
		b := room[:min(end-off, int64(len(room)))]
		s.fill(b, off)
		if _, err := w.Write(b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// sendBody writes size bytes of body, framed; it stops when it has written cut bytes.
func (s stream) sendBody(w io.Writer, p *plan, f framing, size, cut int64) error {
	if f != chunked {
		return s.send(w, 0, min(size, cut))
	}
	off := int64(0)
	for _, n := range p.chunksOf(size, uint64(s.way)) {
		ext := ""
		if n%7 == 0 {
			ext = ";name=\"value\""
		}
		fmt.Fprintf(w, "%x%s\r\n", n, ext)
		if err := s.send(w, off, min(off+n, cut)); err != nil {
			return err
		}
		if off += n; off > cut {
			return nil
		}
		if _, err := io.WriteString(w, "\r\n"); err != nil {
			return err
		}
	}
	end := "0\r\n\r\n"
	if p.trailer() {
		end = fmt.Sprintf("0\r\nX-Trailer: %s\r\n\r\n", s.key)
	}
	if size > cut {
		return nil
	}
	_, err := io.WriteString(w, end)
	return err
}

// receive reads n bytes, or with n < 0 until the end, and holds them against s from off on.
func (s stream) receive(r io.Reader, off, n int64) (got int64, err error) {
	room := rooms.Get().(*[64 << 10]byte)
	defer rooms.Put(room)
	for got != n {
		b := room[:]
		if n > 0 && n-got < int64(len(b)) {
			b = b[:n-got]
		}
		k, err := r.Read(b)
		if bad := s.check(b[:k], off+got); bad != nil {
			return got, wrong{bad}
		}
		got += int64(k)
		if err == io.EOF && n < 0 {
			return got, nil
		}
		if err != nil && got != n {
			return got, err
		}
	}
	return got, nil
}

// receiveBody reads a body and reports whether it ended as its framing says.
func (s stream) receiveBody(r *bufio.Reader, p *plan, f framing, size int64) (got int64, err error) {
	switch f {
	case length:
		return s.receive(r, 0, size)
	case untilClose:
		return s.receive(r, 0, -1)
	case chunked:
		return s.receiveChunks(r, p)
	}
	return 0, nil
}

func (s stream) receiveChunks(r *bufio.Reader, p *plan) (got int64, err error) {
	for {
		l, err := line(r)
		if err != nil {
			return got, err
		}
		digits, _, _ := strings.Cut(l, ";")
		n, err := strconv.ParseInt(digits, 16, 64)
		if err != nil {
			return got, wrongf("behind %d bytes of the %s stands no chunk's size but %q: %s", got, s, l[:min(len(l), 100)], whose([]byte(l)))
		}
		if n == 0 {
			break
		}
		k, err := s.receive(r, got, n)
		got += k
		if err != nil {
			return got, err
		}
		if l, err = line(r); err != nil {
			return got, err
		}
		if l != "" {
			return got, wrongf("behind a chunk of the %s, byte %d, stands %q: %s", s, got, l[:min(len(l), 100)], whose([]byte(l)))
		}
	}
	for trailers := 0; ; trailers++ {
		l, err := line(r)
		switch {
		case err != nil:
			return got, err
		case l == "" && (trailers == 1) == p.trailer():
			return got, nil
		case l != "X-Trailer: "+s.key.String():
			return got, wrongf("among the trailers of the %s stands %q", s, l)
		}
	}
}

// line reads up to CRLF, which it cuts off.
func line(r *bufio.Reader) (string, error) {
	b, err := r.ReadString('\n')
	if err != nil {
		return b, err
	}
	l, ok := strings.CutSuffix(b, "\r\n")
	if !ok {
		return b, wrongf("a line ends without CR: %q", b[:min(len(b), 200)])
	}
	return l, nil
}

// head is the head of a message.
type head struct {
	start  string
	fields map[string]string // by the name in lower case
}

// readHead reads one; none is true when the stream ended before its first byte.
func readHead(r *bufio.Reader) (h head, none bool, err error) {
	h.fields = make(map[string]string)
	for {
		l, err := line(r)
		if err != nil {
			return h, h.start == "" && l == "", err
		}
		switch {
		case h.start == "":
			h.start = l
		case l == "":
			return h, false, nil
		default:
			name, value, ok := strings.Cut(l, ": ")
			if !ok {
				return h, false, wrongf("in the head of %q stands %q", h.start, l)
			}
			h.fields[strings.ToLower(name)] = value
		}
	}
}

// abort resets a connection.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// delivered waits until the other end's socket has all that was sent, or is closed.
func delivered(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	return nettest.Within(10*time.Second, func() (all bool) {
		raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
			left, leftErr := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
			all = err != nil || leftErr != nil || left == 0 || info.State == unix.BPF_TCP_CLOSE
		})
		return all
	})
}

// givenUp waits until the other end has closed or reset the connection, at most for the
// time given. What has come is not read.
func givenUp(c *net.TCPConn, limit time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, int(limit.Milliseconds()))
	})
}
