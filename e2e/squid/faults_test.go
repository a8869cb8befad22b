//go:build linux

package squid

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// faults are Sluices that are wrong in one thing each; the comparison must notice.
var faults = map[string]decider{
	"the last match wins": rewritten(func(lines []string) []string {
		slices.Reverse(lines)
		star := func(s string) bool { return strings.Trim(s, " \t") == "*" }
		stars := slices.ContainsFunc(lines, star)
		if lines = slices.DeleteFunc(lines, star); stars {
			lines = append(lines, "*")
		}
		return lines
	}),
	"a lost `!`": rewritten(func(lines []string) []string {
		for i := range lines {
			lines[i] = strings.Replace(lines[i], "!", "", 1)
		}
		return lines
	}),
	"a prefix one bit short": rewritten(func(lines []string) []string {
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], "/24", "/23")
		}
		return lines
	}),
	"a domain without its own name": rewritten(func(lines []string) []string {
		own := regexp.MustCompile(`^(\s*!?)\*\.(\S+)`)
		for i := range lines {
			lines[i] = own.ReplaceAllString(lines[i], "${1}*.below.${2}")
		}
		return lines
	}),
	"a forgotten last line": rewritten(func(lines []string) []string { return lines[:len(lines)-1] }),
	"no guard": func(text string, w *world, q question) (answer, error) {
		p, t, err := parsed(text, q)
		if err != nil {
			return answer{}, err
		}
		return decide(p.WithGuard(acl.Guard{Mode: acl.GuardOff}), w, t), nil
	},
	"an allowed address that opens the others": func(text string, w *world, q question) (answer, error) {
		got, err := decideByLibrary(text, w, q)
		if err == nil && got.verdict == allowed && !q.literal().IsValid() {
			got = newAnswer(w.lookup(q.host))
		}
		return got, err
	},
	"a name that goes unresolved for a denial": func(text string, w *world, q question) (answer, error) {
		got, err := decideByLibrary(text, w, q)
		if got.verdict == unresolved {
			got.verdict = denied
		}
		return got, err
	},
}

// rewritten decides by other rules than those it was given.
func rewritten(change func(lines []string) []string) decider {
	return func(text string, w *world, q question) (answer, error) {
		return decideByLibrary(strings.Join(change(strings.Split(text, "\n")), "\n"), w, q)
	}
}
