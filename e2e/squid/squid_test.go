//go:build linux

package squid

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	defaultSeed  = 1
	defaultLists = 300
	listsPerRun  = 50 // of squid
	askers       = 4
)

// An asked is a question with both answers.
type asked struct {
	seed  uint64
	index int // of the list
	world *world
	list  list
	q     question
	squid reply
}

// setting reads a number from the environment.
func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

func TestRandomListsDecideAsSquidDoes(t *testing.T) {
	seed := uint64(setting(t, "SLUICE_SQUID_SEED", defaultSeed))
	count := setting(t, "SLUICE_SQUID_LISTS", defaultLists)
	n := newNetwork(t)
	var all []asked
	for first := 0; first < count; first += listsPerRun {
		all = append(all, askSquid(t, n, seed, first, min(listsPerRun, count-first))...)
	}

	sum := compare(all, decideByLibrary)
	for i, f := range sum.findings {
		if i == 10 {
			t.Errorf("… and %d more", len(sum.findings)-i)
			break
		}
		t.Error(f)
	}
	t.Log(sum)
	if count >= defaultLists {
		sum.assertTelling(t)
	}
	t.Run("the gate agrees", func(t *testing.T) {
		for _, a := range all {
			if a.index%10 != 0 {
				continue
			}
			want, err := decideByLibrary(a.list.text, a.world, a.q)
			require.NoError(t, err)
			got := decideByGate(t, a.list.text, a.world, a.q)
			assert.True(t, want.equal(got), "%s\nlibrary: %s\ngate: %s", a, want, got)
		}
	})
	for name, fault := range faults {
		t.Run("notices "+name, func(t *testing.T) {
			assert.NotEmpty(t, compare(all, fault).findings)
		})
	}
}

// askSquid generates count lists and asks one squid about them.
func askSquid(t *testing.T, n *network, seed uint64, first, count int) (all []asked) {
	t.Helper()
	w := newWorld(rand.New(rand.NewPCG(seed, 1<<32+uint64(first)))) //nolint:gosec // for repetition, not for secrets
	n.publish(w)
	lists := make([]list, count)
	for i := range lists {
		r := rand.New(rand.NewPCG(seed, uint64(first+i))) //nolint:gosec // as above
		lists[i] = newList(r)
		for _, q := range newQuestions(r, lists[i]) {
			all = append(all, asked{seed: seed, index: first + i, world: w, list: lists[i], q: q})
		}
	}
	s := startSquid(t, n, lists)
	defer s.stop()
	var wait sync.WaitGroup
	for k := range askers {
		wait.Go(func() {
			// One thread in the namespace asks a share of the questions.
			err := n.ns.Do(func() (err error) {
				for i := k; i < len(all) && err == nil; i += askers {
					all[i].squid, err = ask(firstPort+all[i].index-first, all[i].q)
					if err != nil {
						err = fmt.Errorf("%s\nsquid: %w", all[i], err)
					}
				}
				return err
			})
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return all
}

// String is the question with all that it takes to ask it again by hand.
func (a asked) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "SLUICE_SQUID_SEED=%d, list %d:\n", a.seed, a.index)
	for line := range strings.SplitSeq(a.list.text, "\n") {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	fmt.Fprintf(&b, "asked: %s", a.q)
	if addr := a.q.literal(); addr.IsValid() {
		fmt.Fprintf(&b, ", PTR %q", a.world.ptr[addr])
	} else {
		fmt.Fprintf(&b, ", which resolves to %s", a.world.lookup(a.q.host))
	}
	for _, name := range hexNames {
		if strings.Contains(a.list.text, name) {
			fmt.Fprintf(&b, "; %s resolves to %s", name, a.world.lookup(name))
		}
	}
	return b.String()
}

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
	findings     []string          // what no row explains
}

// compare asks Sluice what squid was asked.
func compare(all []asked, sluice decider) summary {
	sum := summary{asked: len(all), rows: map[behaviour]int{}}
	lists := map[int]bool{}
	for _, a := range all {
		lists[a.index] = true
		s := newScenario(a.world, a.list, a.q)
		want, wantSquid := s.answer(0), s.answer(everything)
		got, err := sluice(a.list.text, a.world, a.q)
		rows := rowsFor(s)
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
	assert.NotZero(t, s.stray, "squid never dialled what Sluice denies")
	assert.GreaterOrEqual(t, s.plain*100, s.asked*70, "too many questions lie in some row")
}
