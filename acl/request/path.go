package request

import (
	"strings"
	"unicode/utf8"
)

// decode returns a segment with its escapes decoded, or what is wrong with it.
func decode(raw string) (string, string) {
	if wrong := raws(raw); wrong != "" {
		return "", wrong
	}
	return unescape(raw)
}

// raws says which byte of a path as sent is none that may be sent.
func raws(s string) string {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			return "a backslash"
		case c == '#':
			return "a fragment"
		case c == ' ':
			return "a space"
		case c < 0x20 || c == 0x7f:
			return "a control byte"
		case c >= 0x80:
			return "a byte that is not ASCII"
		}
	}
	return ""
}

// unescape decodes the escapes (RFC 3986 section 2.1) of s, and says what is wrong with them.
func unescape(s string) (string, string) {
	if strings.IndexByte(s, '%') < 0 {
		return s, ""
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) || hex(s[i+1]) < 0 || hex(s[i+2]) < 0 {
			return "", "an escape that is none"
		}
		c := byte(hex(s[i+1])<<4 | hex(s[i+2]))
		switch {
		case c == '\\':
			return "", "an escaped backslash"
		case c < 0x20 || c == 0x7f:
			return "", "an escaped control byte"
		}
		b = append(b, c)
		i += 2
	}
	if !utf8.Valid(b) {
		return "", "escapes that are no UTF-8"
	}
	return string(b), ""
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
