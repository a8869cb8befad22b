package settings

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bool takes true and false in the spellings of strconv.ParseBool.
func Bool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return b, nil
}

// Duration takes Go's syntax, from least to most. 0 means something only where
// least is 0.
func Duration(least, most time.Duration) func(string) (time.Duration, error) {
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

// Number takes a decimal number from least to most.
func Number(least, most int) func(string) (int, error) {
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

// Size takes a number of bytes, or with a unit, from least to most bytes.
func Size(least, most int) func(string) (int, error) {
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

// Choice takes one of the words.
func Choice(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return "", fmt.Errorf("%q is none of %s", s, strings.Join(words, ", "))
	}
}

// Line takes one line of printable text.
func Line(s string) (string, error) {
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return "", fmt.Errorf("%q is not one line of printable text", s)
		}
	}
	return s, nil
}

// Path takes what can be a file's name.
func Path(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%q is no file name", s)
	}
	return s, nil
}

// maxSocket is the length of the longest path that the kernel takes for a socket.
const maxSocket = 107

// Socket takes the absolute path of a Unix socket.
func Socket(s string) (string, error) {
	if _, err := Path(s); err != nil {
		return "", err
	}
	if !filepath.IsAbs(s) || len(s) > maxSocket {
		return "", fmt.Errorf("%q cannot be a socket: write an absolute path of at most %d bytes", s, maxSocket)
	}
	return s, nil
}

// Listen takes ":PORT", "ADDR:PORT" or "[ADDR]:PORT".
func Listen(s string) (string, error) {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return fmt.Sprintf(":%d", n), nil
		}
	} else if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.String(), nil
	}
	return "", fmt.Errorf("%q is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name", s)
}

// ListenOrOff is Listen, or "" for "off".
func ListenOrOff(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return Listen(s)
}

// Level takes a level's name, in any case.
func Level(s string) (slog.Level, error) {
	name, err := Choice("debug", "info", "warn", "error")(strings.ToLower(s))
	if err != nil {
		return 0, err
	}
	var level slog.Level
	err = level.UnmarshalText([]byte(name))
	return level, err
}
