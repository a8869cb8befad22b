// Package logline appends what lines of access logs are made of, without allocating.
package logline

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// ID appends the id of a request as 16 hex digits.
func ID(b []byte, id uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[id>>shift&15])
	}
	return b
}

// Time appends t in UTC as RFC 3339 has it, with the given number of digits, 1 to 9,
// behind the point. It is several times as fast as a layout of package time with so
// many digits.
func Time(b []byte, t time.Time, digits int) []byte {
	t = t.UTC()
	b = t.AppendFormat(b, time.RFC3339) // which time has a short way for
	n := t.Nanosecond()
	for range 9 - digits {
		n /= 10
	}
	b[len(b)-1] = '.' // the Z
	return append(Padded(b, n, digits), 'Z')
}

// Millis appends d as milliseconds, with three digits behind the point.
func Millis(b []byte, d time.Duration) []byte {
	us := d.Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	b = append(b, '.')
	return Padded(b, int(us%1000), 3)
}

// Padded appends n, which is not negative, with zeros in front of it up to so many
// digits.
func Padded(b []byte, n, digits int) []byte {
	for pow := digits - 1; pow > 0; pow-- {
		p := 1
		for range pow {
			p *= 10
		}
		if n < p {
			b = append(b, '0')
		}
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// String appends s as a JSON string (RFC 8259 section 7). Bytes that are no UTF-8
// become U+FFFD, so that a line is always JSON.
func String[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// AddrPort appends a as a JSON string.
func AddrPort(b []byte, a netip.AddrPort) []byte {
	b = append(b, '"')
	b = a.AppendTo(b)
	return append(b, '"')
}

// Addr appends a as a JSON string.
func Addr(b []byte, a netip.Addr) []byte {
	b = append(b, '"')
	b = a.AppendTo(b)
	return append(b, '"')
}
