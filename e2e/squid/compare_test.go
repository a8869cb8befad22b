//go:build linux

package squid

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// rowsFor are the behaviours that change the answer, by themselves or the last of
// all. Only when these are none though all together make a difference, it is those
// that do when one is added after the other.
func rowsFor(s scenario) (rows []behaviour) {
	sluice, squid := s.answer(0), s.answer(everything)
	for b := behaviour(1); b < everything; b <<= 1 {
		if !s.answer(b).equal(sluice) || !s.answer(everything&^b).equal(squid) {
			rows = append(rows, b)
		}
	}
	if len(rows) > 0 || sluice.equal(squid) {
		return rows
	}
	for b := behaviour(1); b < everything; b <<= 1 {
		if !s.answer(b<<1 - 1).equal(s.answer(b - 1)) {
			rows = append(rows, b)
		}
	}
	return rows
}

// summary is what came of a comparison.
type summary struct {
	asked, lists int
	plain        int               // in no row: both agree
	cancelled    int               // in rows that cancel each other: both agree
	rows         map[behaviour]int // differences
	stray        int               // squid dialled an address that Sluice denies
	verdicts     map[verdict]int   // of squid
	broken       int               // texts that Sluice refused
	findings     []string          // what no row explains
}

// compare asks Sluice what squid was asked.
func compare(all []asked, sluice decider) summary {
	sum := summary{asked: len(all), rows: map[behaviour]int{}, verdicts: map[verdict]int{}}
	lists := map[int]bool{}
	for _, a := range all {
		lists[a.index] = true
		s := newScenario(a.world, a.list, a.q)
		want, wantSquid := s.answer(0), s.answer(everything)
		got, err := sluice(a.list.text, a.world, a.q)
		rows := rowsFor(s)
		sum.verdicts[a.squid.verdict]++
		if err != nil {
			sum.broken++
		}
		if err != nil || !want.equal(got) || !wantSquid.holds(a.squid) {
			sum.findings = append(sum.findings, a.report(got, err, want, wantSquid, rows))
			continue
		}
		if a.squid.verdict == allowed && !slices.Contains(got.addrs, a.squid.dialled) {
			sum.stray++
		}
		switch {
		case !want.equal(wantSquid):
			for _, b := range rows {
				sum.rows[b]++
			}
		case len(rows) > 0:
			sum.cancelled++
		default:
			sum.plain++
		}
	}
	sum.lists = len(lists)
	return sum
}

// report tells a difference that is not as the rows say.
func (a asked) report(got answer, err error, want, wantSquid answer, rows []behaviour) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nsquid:  %s", a, a.squid)
	if !wantSquid.holds(a.squid) {
		fmt.Fprintf(&b, "  <- expected: %s", wantSquid)
	}
	fmt.Fprintf(&b, "\nSluice: %s", got)
	if err != nil {
		fmt.Fprintf(&b, " (%v)", err)
	}
	if !want.equal(got) {
		fmt.Fprintf(&b, "  <- expected: %s", want)
	}
	b.WriteString("\nrows of the table: ")
	if len(rows) == 0 {
		b.WriteString("none")
	}
	for i, r := range rows {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(rowOf[r])
	}
	return b.String()
}

func (s summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d questions to %d lists: %d in no row, and agree; %d agree since rows cancel each other; %d unexplained",
		s.asked, s.lists, s.plain, s.cancelled, len(s.findings))
	fmt.Fprintf(&b, "; squid's verdicts: %v", s.verdicts)
	for r := behaviour(1); r < everything; r <<= 1 {
		fmt.Fprintf(&b, "\n%6d differ: %s", s.rows[r], rowOf[r])
	}
	fmt.Fprintf(&b, "\n%6d times squid dialled an address that Sluice denies", s.stray)
	return b.String()
}

// assertTelling asserts that the comparison could have failed: the rows are all
// real, and excuse a small part only.
func (s summary) assertTelling(t testing.TB) {
	t.Helper()
	for b, row := range rowOf {
		assert.NotZero(t, s.rows[b], "never seen: %s", row)
	}
	for _, v := range []verdict{denied, allowed} {
		assert.GreaterOrEqual(t, s.verdicts[v]*5, s.asked, "too few questions are %s", v)
	}
	assert.NotZero(t, s.stray, "squid never dialled what Sluice denies")
	assert.GreaterOrEqual(t, s.plain*100, s.asked*70, "too many questions lie in some row")
}
