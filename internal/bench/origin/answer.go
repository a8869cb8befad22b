//go:build linux

package origin

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/raw"
)

// handshake is the first byte of a record of TLS with a ClientHello.
const handshake = 22

// command does what the raw port was told.
func (s *server) command(c *conn, b []byte) {
	if len(b) < messageSize {
		c.part = append(c.part, b...)
		return
	}
	if b[0] == handshake { // of which the beginning goes back
		if size := 5 + int(b[3])<<8 + int(b[4]); len(b) < size {
			c.part = append(c.part, b...)
			return
		}
		copy(c.reply[:], b)
		s.counts.Messages++
		c.out = c.reply[:]
		return
	}
	n, _ := strconv.ParseInt(string(b[1:messageSize]), 10, 64)
	copy(c.reply[:], b)
	s.counts.Messages++
	switch b[0] {
	case 'E':
		c.out = c.reply[:]
	case 'D':
		c.left = n
	case 'U':
		n -= int64(len(b) - messageSize)
		s.counts.Bytes += int64(len(b) - messageSize)
		if c.left = -n; n == 0 {
			c.out = c.reply[:]
		}
	default:
		c.out, c.close = []byte(fmt.Sprintf("what is %q?", b[0])), true
	}
}

var (
	headEnd   = []byte("\r\n\r\n")
	version10 = []byte(" HTTP/1.0\r\n")
	closing   = [][]byte{[]byte("\r\nConnection: close\r\n"), []byte("\r\nconnection: close\r\n"), []byte("\r\nConnection: Close\r\n")}
	large     = []byte("/1m ")
)

// request answers a request of any HTTP port.
func (s *server) request(fd int, c *conn, b []byte) {
	n := bytes.Index(b, headEnd)
	if n < 0 {
		c.part = append(c.part, b...)
		return
	}
	s.counts.Requests++
	switch c.port {
	case Reset:
		s.reset(fd)
		return
	case Broken:
		raw.Write(fd, s.small.keep[:len(s.small.keep)-SizeSmall/2])
		s.end(fd)
		return
	case Slow:
		s.slow = append(s.slow, late{fd, time.Now().Add(SlowAnswer)})
		return
	}
	b = b[:n+4]
	line := b[:bytes.IndexByte(b, '\r')+2]
	a := &s.small
	if bytes.Contains(line, large) {
		a = &s.large
	}
	c.close = bytes.Contains(line, version10)
	for _, f := range closing {
		c.close = c.close || bytes.Contains(b, f)
	}
	if c.out = a.keep; c.close {
		c.out = a.last
	}
}
