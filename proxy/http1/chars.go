package http1

import "bytes"

// Byte classes of RFC 9110 section 5.5 and 5.6.2, and RFC 3986.
const (
	isToken  = 1 << iota // tchar
	isValue              // field-vchar, SP, HTAB
	isTarget             // what a request target may hold; see targetByte
	isHex
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f':
			t[c] |= isHex | isToken
		case c >= 'G' && c <= 'Z' || c >= 'g' && c <= 'z':
			t[c] |= isToken
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0:
			t[c] |= isToken
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= isValue
		}
		// Octets above 0x7f are no RFC 3986 characters, but curl and others send
		// a path as it was typed, and no reader takes them for anything else.
		// '#' would start a fragment, which no request target has.
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= isTarget
		}
	}
	return t
}()

// all reports whether every byte of b is in the class.
func all(b []byte, bit uint8) bool {
	for _, c := range b {
		if class[c]&bit == 0 {
			return false
		}
	}
	return true
}

// equalFold reports whether b is s in any ASCII case; s is lower case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// trimOWS drops optional white space (SP and HTAB) at both ends.
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return trimEnd(b)
}

// trimEnd drops optional white space at the end.
func trimEnd(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// appendNeat appends lines, each a field line, a chunk-size line or empty, without the white
// space before their first colon, semicolon or line end.
func appendNeat(dst, lines []byte) []byte {
	for len(lines) > 0 {
		n := bytes.IndexByte(lines, '\n') + 1
		end := bytes.IndexAny(lines[:n], ":;\r")
		dst = append(dst, trimEnd(lines[:end])...)
		dst = append(dst, lines[end:n]...)
		lines = lines[n:]
	}
	return dst
}

// nextListItem cuts the first member off a comma-separated list (RFC 9110
// section 5.6.1). An empty member comes back as an empty slice.
func nextListItem(list []byte) (item, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trimOWS(list[:i]), list[i+1:]
	}
	return trimOWS(list), nil
}

// parseDigits reads a decimal number of digits only. ok is false for anything
// else, and for a number over max.
func parseDigits(b []byte, max int64) (n int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if n > (max-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
