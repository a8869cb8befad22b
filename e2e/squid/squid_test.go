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
	if count < defaultLists {
		return // too few questions to show that they tell anything
	}
	sum.assertTelling(t)
	for name, fault := range faults {
		t.Run("notices "+name, func(t *testing.T) {
			sum := compare(all, fault)
			assert.Zero(t, sum.broken, "the fault must be in the decision, not in the text")
			assert.NotEmpty(t, sum.findings)
		})
	}
}

// To have many lists in one squid must make no difference.
func TestOneListForEachPortChangesNothing(t *testing.T) {
	n := newNetwork(t)
	const count = 8
	together := askSquid(t, n, defaultSeed, 0, count)
	for i := range count {
		alone := askAll(t, n, together[0].world, questionsOf(together, i))
		for k, a := range questionsOf(together, i) {
			assert.Equal(t, a.squid.verdict, alone[k].squid.verdict, "%s", a)
		}
	}
}

// questionsOf are those to one list.
func questionsOf(all []asked, index int) (some []asked) {
	for _, a := range all {
		if a.index == index {
			some = append(some, a)
		}
	}
	return some
}

// askSquid generates count lists, and questions to them, and asks one squid.
func askSquid(t *testing.T, n *network, seed uint64, first, count int) []asked {
	t.Helper()
	w := newWorld(rand.New(rand.NewPCG(seed, 1<<32+uint64(first)))) //nolint:gosec // for repetition, not for secrets
	var all []asked
	for i := first; i < first+count; i++ {
		r := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // as above
		l := newList(r)
		for _, q := range newQuestions(r, l) {
			all = append(all, asked{seed: seed, index: i, world: w, list: l, q: q})
		}
	}
	return askAll(t, n, w, all)
}

// askAll returns questions, which are in the order of their lists, with the answers
// of one squid.
func askAll(t *testing.T, n *network, w *world, questions []asked) []asked {
	t.Helper()
	all := slices.Clone(questions)
	var lists []list
	ports := make([]int, len(all))
	for i, a := range all {
		if i == 0 || a.index != all[i-1].index {
			lists = append(lists, a.list)
		}
		ports[i] = firstPort + len(lists) - 1
	}
	n.publish(w)
	s := startSquid(t, n, lists)
	defer s.stop()
	var wait sync.WaitGroup
	for k := range askers {
		wait.Go(func() {
			// One thread in the namespace asks a share of the questions.
			err := n.ns.Do(func() (err error) {
				for i := k; i < len(all) && err == nil; i += askers {
					if all[i].squid, err = ask(ports[i], all[i].q); err != nil {
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
