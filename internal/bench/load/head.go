//go:build linux

package load

import (
	"bytes"
	"errors"
)

// head is what matters of the head of an answer.
type head struct {
	status int
	length int64 // -1: none stated
	last   bool  // the connection ends after it
}

var (
	errShort = errors.New("the head is not complete")
	errHead  = errors.New("no HTTP answer")
	end      = []byte("\r\n\r\n")
)

// parseHead reads the head at the beginning of b, and returns its length.
func parseHead(b []byte) (h head, n int, err error) {
	n = bytes.Index(b, end)
	if n < 0 {
		return h, 0, errShort
	}
	n += len(end)
	if n < 16 || string(b[:7]) != "HTTP/1." || b[8] != ' ' {
		return h, 0, errHead
	}
	h.length = -1
	h.last = b[7] == '0'
	for _, d := range b[9:12] {
		h.status = h.status*10 + int(d-'0')
	}
	for rest := b[:n-2]; ; {
		i := bytes.IndexByte(rest, '\n')
		if rest = rest[i+1:]; len(rest) == 0 {
			return h, n, nil
		}
		switch {
		case hasPrefixFold(rest, "content-length:"):
			h.length = 0
			for _, d := range rest[len("content-length:"):] {
				if d >= '0' && d <= '9' {
					h.length = h.length*10 + int64(d-'0')
				} else if d == '\r' {
					break
				}
			}
		case hasPrefixFold(rest, "connection: close"), hasPrefixFold(rest, "proxy-connection: close"):
			h.last = true
		case hasPrefixFold(rest, "connection: keep-alive"):
			h.last = false
		}
	}
}

// hasPrefixFold reports whether b begins with prefix, which is in lower case,
// whatever the case of letters in b.
func hasPrefixFold(b []byte, prefix string) bool {
	if len(b) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}
