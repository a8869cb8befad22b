package audit_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/acl/audit/audittest"
)

var smtPairs = flag.Int("smt", 1000, "pairs of lists that z3 judges")

// smtCase is a pair of lists with what Compare says, as questions.
type smtCase struct {
	old, now string
	diff     audit.Diff
}

// z3 judges what Compare says of random pairs, most of them a list and an edit of it: whether they
// differ, and whether the new one opens something.
func TestCompareJudgedByZ3(t *testing.T) {
	z3, err := exec.LookPath("z3")
	if err != nil {
		t.Skip("z3 is not installed: scripts/install-test-deps.sh installs it")
	}
	const batch = 50
	differ, alike := 0, 0
	for first := 0; first < *smtPairs; first += batch {
		var cases []smtCase
		text := bytes.NewBufferString(acltest.SMTPrelude())
		for n := first; n < min(first+batch, *smtPairs); n++ {
			c := smtPair(t, n)
			mode := "off"
			if n%10 == 0 {
				mode = "default" // which makes a question ten times as long
			}
			a, b := audittest.NewSubject(t, c.old, mode, nil), audittest.NewSubject(t, c.now, mode, nil)
			c.diff = audit.Compare(a.Policy, b.Policy, audit.Options{Own: true})
			require.True(t, c.diff.Complete())
			fmt.Fprintf(text, "(push)(define-fun was () Bool %s)(define-fun is () Bool %s)\n", a.Ref.SMT(), b.Ref.SMT())
			for _, q := range []string{"(and is (not was))", "(and was (not is))"} {
				fmt.Fprintf(text, "(push)(assert %s)(check-sat)(pop)\n", q)
			}
			text.WriteString("(pop)\n")
			cases = append(cases, c)
		}
		cmd := exec.Command(z3, "-in", "-T:100")
		cmd.Stdin = text
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		answers := strings.Fields(string(out))
		require.Len(t, answers, 2*len(cases), "%s", out)
		for i, c := range cases {
			for j, found := range [...]bool{len(c.diff.Opened()) > 0, len(c.diff.Closed()) > 0} {
				want := map[bool]string{true: "sat", false: "unsat"}[found]
				require.Equal(t, answers[2*i+j], want, "opened, closed %d of\n%s\n-- and\n%s\n-- %+v", j, c.old, c.now, c.diff.Changes)
			}
			if len(c.diff.Changes) > 0 {
				differ++
			} else {
				alike++
			}
		}
	}
	t.Logf("%d pairs differ, %d are alike", differ, alike)
	require.Greater(t, differ, *smtPairs/10)
	require.Greater(t, alike, *smtPairs/20)
}

// smtPair is the n-th pair: the same one each time.
func smtPair(t *testing.T, n int) smtCase {
	old := acltest.Rules().Example(n)
	r := rand.New(rand.NewPCG(uint64(n), 7))
	lines := strings.Split(strings.ReplaceAll(old, "\r", ""), "\n")
	for range 1 + r.IntN(2) {
		i := r.IntN(len(lines) + 1)
		switch rule := acltest.Rule().Example(n*3 + 1); {
		case i == len(lines) || r.IntN(3) == 0:
			lines = append(lines[:min(i, max(0, len(lines)-1))], append([]string{rule}, lines[min(i, max(0, len(lines)-1)):]...)...)
		case r.IntN(2) == 0 && len(lines) > 1:
			lines = append(lines[:i], lines[i+1:]...)
		}
	}
	now := strings.Join(lines, "\n")
	if _, err := acl.Parse(now); err != nil {
		now = rapid.Just(old).Example()
	}
	return smtCase{old: old, now: now}
}
