package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sluiceproxy/sluice/acl"
)

// one is a setting of one value, which parse makes of its text.
func one[T, V any](field func(*T) *V, parse func(string) (V, error)) func(*T, []value, func(Problem)) {
	return func(dst *T, vs []value, report func(Problem)) {
		v := vs[len(vs)-1]
		got, err := parse(strings.TrimSpace(v.text))
		if err != nil {
			report(v.problem(err.Error()))
			return
		}
		*field(dst) = got
	}
}

// many is a setting of several values, with commas or white space between them.
// One that is listed twice counts once.
func many[T any, V comparable](field func(*T) *[]V, parse func(string) (V, error)) func(*T, []value, func(Problem)) {
	return func(dst *T, vs []value, report func(Problem)) {
		var all []V
		for _, v := range split(vs) {
			got, err := parse(v.text)
			if err != nil {
				report(v.problem(err.Error()))
			} else if !slices.Contains(all, got) {
				all = append(all, got)
			}
		}
		*field(dst) = all
	}
}

// split makes a value of each word, with the line it stands in.
func split(vs []value) []value {
	var words []value
	for _, v := range vs {
		lines := strings.Split(strings.TrimSuffix(v.text, "\n"), "\n")
		for i, line := range lines {
			w := v
			switch {
			case v.file:
				w.line += i
			case len(lines) > 1:
				w.line = i + 1
			}
			for _, w.text = range strings.FieldsFunc(line, isSeparator) {
				words = append(words, w)
			}
		}
		if strings.TrimFunc(v.text, isSeparator) == "" {
			v.text = ""
			words = append(words, v) // for parse to complain of
		}
	}
	return words
}

func isSeparator(r rune) bool { return r == ',' || unicode.IsSpace(r) }

// parseListen takes ":PORT", "ADDR:PORT" or "[ADDR]:PORT".
func parseListen(s string) (string, error) {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return fmt.Sprintf(":%d", n), nil
		}
	} else if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.String(), nil
	}
	return "", fmt.Errorf("%q is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name", s)
}

// portOf is the port of what parseListen made.
func portOf(listen string) string { return listen[strings.LastIndexByte(listen, ':')+1:] }

// parseAdmin is parseListen, or "" for "off".
func parseAdmin(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return parseListen(s)
}

// parseHostName takes a name without a port, and makes it canonical.
func parseHostName(s string) (string, error) {
	h, err := acl.ParseHost(s)
	if err != nil || !h.IsName() {
		return "", fmt.Errorf("%q is no host name; write it without a port", s)
	}
	return h.Name(), nil
}

// parseSource takes ADDR or ADDR/LEN; the length is the network set-up's business.
func parseSource(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if strings.Contains(s, "/") {
		var p netip.Prefix
		p, err = netip.ParsePrefix(s)
		addr = p.Addr()
	}
	addr = addr.Unmap()
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("EGRESS_SOURCE unspecified or invalid: %q is not ADDR or ADDR/LEN", s)
	case addr.Zone() != "":
		return netip.Addr{}, fmt.Errorf("EGRESS_SOURCE unspecified or invalid: %q has a zone", s)
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Addr{}, fmt.Errorf("EGRESS_SOURCE unspecified or invalid: nothing can be sent from %q", s)
	}
	return addr, nil
}

// parseResolver takes ADDR, ADDR:PORT or [ADDR]:PORT; the port is 53 when left out.
func parseResolver(s string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), 53), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no DNS server; write ADDR or ADDR:PORT", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// parseBool takes true and false in the spellings of strconv.ParseBool.
func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return b, nil
}

// duration takes Go's syntax, from least to most. 0 means something only where
// least is 0.
func duration(least, most time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration; write 30s, 5m or 1h30m", s)
		}
		if d < least || d > most {
			return 0, fmt.Errorf("%s is out of range: from %s to %s", s, short(least), short(most))
		}
		return d, nil
	}
}

// short is d without the zero minutes and seconds that String appends.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// number takes a decimal number from least to most.
func number(least, most int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, fmt.Errorf("%q is no whole number", s)
		}
		if n < least || n > most {
			return 0, fmt.Errorf("%d is out of range: from %d to %d", n, least, most)
		}
		return n, nil
	}
}

var units = []struct {
	name  string
	bytes int
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// size takes a number of bytes, or with a unit, from least to most bytes.
func size(least, most int) func(string) (int, error) {
	return func(s string) (int, error) {
		digits, unit := s, 1
		for _, u := range units {
			if d, ok := strings.CutSuffix(s, u.name); ok {
				digits, unit = strings.TrimSpace(d), u.bytes
				break
			}
		}
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%q is no size; write bytes, or a number with KiB or MiB", s)
		}
		if total := int(n) * unit; total >= least && total <= most {
			return total, nil
		}
		return 0, fmt.Errorf("%s is out of range: from %d to %d bytes", s, least, most)
	}
}

// choice takes one of the words.
func choice(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return "", fmt.Errorf("%q is none of %s", s, strings.Join(words, ", "))
	}
}

// parseLevel takes a level's name, in any case.
func parseLevel(s string) (slog.Level, error) {
	name, err := choice("debug", "info", "warn", "error")(strings.ToLower(s))
	if err != nil {
		return 0, err
	}
	var level slog.Level
	err = level.UnmarshalText([]byte(name))
	return level, err
}

// parseLine takes one line of printable text.
func parseLine(s string) (string, error) {
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return "", fmt.Errorf("%q is not one line of printable text", s)
		}
	}
	return s, nil
}

// parsePath takes what can be a file's name.
func parsePath(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%q is no file name", s)
	}
	return s, nil
}
