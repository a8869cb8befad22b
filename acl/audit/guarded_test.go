package audit_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// A literal that is lost leaves the guard on the gateway that has it, for whatever name: that is a region for each
// address, and not one for each name that is allowed.
func TestLostLiteralIsFewRegions(t *testing.T) {
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("h%d.test", i), fmt.Sprintf("p%d.test:%d", i, 1000+i%7))
	}
	old := parse(t, append(lines[:len(lines):len(lines)], "10.0.0.1", "10.0.0.2"))
	for _, way := range [][2]*acl.Policy{{old, parse(t, lines)}, {parse(t, lines), old}} {
		d := audit.Compare(way[0], way[1], audit.Options{})
		require.True(t, d.Complete(), d.Why)
		at := map[string]audit.Change{}
		for _, c := range d.Changes {
			if c.Old.Guard == acl.GuardOwn || c.New.Guard == acl.GuardOwn {
				at[c.Target.Addr.String()] = c
				require.Nil(t, c.Ports)
				require.NotEqual(t, audit.Neither, c.Others)
			}
		}
		require.Len(t, at, 3, "both, and what embeds them")
		require.Contains(t, at, "10.0.0.1")
		require.Contains(t, at, "10.0.0.2")
		require.Less(t, len(d.Changes), 10)
	}
}

// A course has all that its comparisons have: what the guard denies of one address range is not what it denies of
// another, though both are of its decisions.
func TestCourseKeepsWhatTheGuardDecides(t *testing.T) {
	old, now := parse(t, []string{"x.test", "127.0.0.1", "169.254.169.254"}), parse(t, []string{"126.0.0.0/7", "168.0.0.0/7", "x.test"})
	d := audit.Compare(old, now, audit.Options{})
	stages := audit.Course(old, now, audit.CourseOptions{})
	require.Len(t, stages, 1)
	require.Equal(t, d.Changes, stages[0].Diff.Changes)
}
