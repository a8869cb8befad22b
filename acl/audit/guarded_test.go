package audit_test

import (
	"fmt"
	"testing"
	"time"

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

// What a stage has said of an address is not said again of a later day when another of the names there is its example.
func TestCourseSaysOnce(t *testing.T) {
	lines := []string{"fe80::1", "x.test #@ expires=2027-01-01", "!y.test"}
	stages := audit.Course(parse(t, lines), parse(t, lines[1:]), audit.CourseOptions{At: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)})
	require.NotEmpty(t, stages)
	require.NotEmpty(t, stages[0].Diff.Changes)
	require.Equal(t, acl.GuardLinkLocal, stages[0].Diff.Changes[0].New.Guard)
	require.Len(t, stages, 1)
}
