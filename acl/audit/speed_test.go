package audit_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
)

var speed = flag.String("speed", "1000", "sizes of lists for the speed table, with commas between them")

// randomRules are n lines as people have them: mostly names, some domains and prefixes, 50 port boundaries.
func randomRules(seed uint64, n int) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	lines := make([]string, n)
	for i := range lines {
		deny, port := "", ""
		if r.IntN(10) == 0 {
			deny = "!"
		}
		if r.IntN(10) == 0 {
			port = fmt.Sprintf(":%d", 1000+37*r.IntN(25))
		}
		name := fmt.Sprintf("h%d.d%d.test", r.IntN(10*n), r.IntN(n))
		switch r.IntN(10) {
		case 0, 1:
			lines[i] = deny + "*." + name[strings.IndexByte(name, '.')+1:] + port
		case 2:
			lines[i] = fmt.Sprintf("%s%d.%d.%d.0/%d%s", deny, 20+r.IntN(60), r.IntN(256), r.IntN(256), 16+r.IntN(9), port)
		default:
			lines[i] = deny + name + port
		}
	}
	return lines
}

func parse(t testing.TB, lines []string) *acl.Policy {
	p, err := acl.Parse(strings.Join(lines, "\n"))
	require.NoError(t, err)
	return p
}

// edited is lines with five others, among them a prefix.
func edited(lines []string) []string {
	out := append([]string{}, lines...)
	for i := range 4 {
		out[(2*i+1)*len(out)/10] = fmt.Sprintf("new%d.test", i)
	}
	out[9*len(out)/10] = "21.0.0.0/9"
	return out
}

// The table of docs/policy.md, which "make speed" prints. What the specification wants of it is for
// a machine that does nothing else, and no race detector: the bounds of this test are ten times as wide.
func TestSpeedTable(t *testing.T) {
	t.Log("| rules | load | lint | diff, unrelated | diff, five lines edited | memory |")
	for _, size := range strings.Split(*speed, ",") {
		n, err := strconv.Atoi(size)
		require.NoError(t, err)
		lines := randomRules(1, n)
		start := time.Now()
		a := parse(t, lines)
		load := time.Since(start)
		b, c := parse(t, randomRules(2, n)), parse(t, edited(lines))
		o := audit.Options{Limit: 5 * time.Minute}
		took := func(f func()) string {
			start := time.Now()
			f()
			return time.Since(start).Round(time.Millisecond).String()
		}
		lint := took(func() {
			r := audit.Lint(a, audit.LintOptions{Options: o})
			if !r.Complete() {
				t.Log("lint: ", r.Why)
			}
		})
		var few audit.Diff
		start = time.Now()
		few = audit.Compare(a, c, o)
		fewTook := time.Since(start)
		require.True(t, few.Complete(), few.Why)
		require.NotEmpty(t, few.Changes)
		unrelated := took(func() {
			d := audit.Compare(a, b, o)
			if !d.Complete() {
				t.Log("diff: ", d.Why, len(d.Changes))
			}
		})
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("| %s | %s | %s | %s | %s | %d MiB |", size, load.Round(time.Millisecond), lint, unrelated, fewTook.Round(time.Millisecond), m.Sys>>20)
		require.Less(t, fewTook, 10*time.Second)
	}
}

// A bound is told, and never passed off as an answer.
func TestBoundsAreHonest(t *testing.T) {
	a, b := parse(t, randomRules(1, 2000)), parse(t, randomRules(2, 2000))
	d := audit.Compare(a, b, audit.Options{Limit: time.Nanosecond})
	require.False(t, d.Complete())
	d = audit.Compare(a, b, audit.Options{Regions: 10})
	require.False(t, d.Complete())
	require.Len(t, d.Changes, 10)
	require.Equal(t, "what differs has more regions than the limit", d.Why)
	r := audit.Lint(a, audit.LintOptions{Options: audit.Options{Limit: time.Nanosecond}})
	require.False(t, r.Complete())

	// Patterns below one domain multiply.
	var lines []string
	for i := range 24 {
		lines = append(lines, fmt.Sprintf("*%c%d*.*%d*.*x%d*.test", 'a'+i, i, i, i))
	}
	p := parse(t, append([]string{"#@ assert deny *.test:81"}, lines...))
	d = audit.Compare(p, parse(t, lines[:23]), audit.Options{Limit: time.Second})
	if len(d.Changes) == 0 {
		require.False(t, d.Complete())
	}
	bs := audit.CheckAssertions(p, audit.Options{Limit: 100 * time.Millisecond})
	require.Len(t, bs, 1)
}

// The bound holds inside each step too: thousands of patterns below one domain are one machine, and thousands of
// assertions are one question.
func TestBoundsHoldWithinSteps(t *testing.T) {
	var patterns, names, asserts []string
	for i := range 10_000 {
		patterns = append(patterns, fmt.Sprintf("*x%d.test", i))
		names = append(names, fmt.Sprintf("h%d.test", i))
		asserts = append(asserts, fmt.Sprintf("#@ assert allow h%d.test", i))
	}
	start := time.Now()
	r := audit.Lint(parse(t, patterns), audit.LintOptions{Options: audit.Options{Limit: 100 * time.Millisecond}})
	require.Equal(t, "names: patterns with *: the time is over", r.Why)
	require.Less(t, time.Since(start), 5*time.Second)

	start = time.Now()
	require.Empty(t, audit.CheckAssertions(parse(t, append(asserts, names...)), audit.Options{Limit: time.Minute}))
	require.Less(t, time.Since(start), 20*time.Second)
	start = time.Now()
	bs := audit.CheckAssertions(parse(t, append(asserts, names...)), audit.Options{Limit: time.Nanosecond})
	require.Len(t, bs, len(asserts))
	require.Contains(t, bs[0].Why, "the time is over")
	require.Less(t, time.Since(start), 5*time.Second)
}
