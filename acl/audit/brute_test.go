package audit_test

import (
	"flag"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl/audit/audittest"
)

// TestMain has rapid try fewer than its hundred cases, each of which looks at a hundred thousand targets;
// -rapid.checks still has the last word.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestCompareJudgedByBruteForce(t *testing.T) { rapid.Check(t, audittest.Compare) }

func TestLintJudgedByBruteForce(t *testing.T) { rapid.Check(t, audittest.Lint) }

func TestProtocolsJudgedByBruteForce(t *testing.T) { rapid.Check(t, audittest.Protocols) }

func TestLintOverTimeJudgedByBruteForce(t *testing.T) { rapid.Check(t, audittest.LintOverTime) }
