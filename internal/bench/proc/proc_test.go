//go:build linux

package proc

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	st, err := parseStat([]byte("77 (a (b) c) S 12 77 77 0 -1 4194560 100 200 0 0 150 50 7 3 20 0 4 0 1234"))
	require.NoError(t, err)
	assert.Equal(t, stat{ppid: 12, cpu: 2100 * time.Millisecond}, st)
	for _, bad := range []string{"", "77 (a", "77 (a) S 12", "77 (a) S x 77 77 0 -1 4194560 100 200 0 0 150 50 7 3 20"} {
		_, err := parseStat([]byte(bad))
		assert.Error(t, err, "%q", bad)
	}
}

func TestParseBusy(t *testing.T) {
	all, err := parseBusy([]byte("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 50 4 5 6 7 8\ncpu1 0 0 1 100 50 0 0 0 0 0\nintr 5\n"))
	require.NoError(t, err)
	assert.Equal(t, []time.Duration{210 * time.Millisecond, 10 * time.Millisecond}, all)
}

func TestField(t *testing.T) {
	b := []byte("Rss:    120 kB\nPss:     60 kB\nusage_usec 77\n")
	for name, want := range map[string]int64{"Rss": 120, "Pss": 60, "usage_usec": 77} {
		n, err := field(b, name)
		require.NoError(t, err)
		assert.Equal(t, want, n)
	}
	_, err := field(b, "Swap")
	assert.Error(t, err)
}

// A group counts the program and its children, with a cgroup or without.
func TestGroupCountsChildren(t *testing.T) {
	for _, a := range []*Accounts{{}, OpenAccounts()} {
		t.Run(a.String(), func(t *testing.T) {
			defer a.Close()
			g, err := a.Group("test")
			require.NoError(t, err)
			// A child burns processor time, then both wait.
			script := `[ -z "$1" ] || echo $$ >"$1/cgroup.procs"; sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; read x'; read x`
			cmd := exec.Command("sh", "-c", script, "sh", g.Dir())
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			g.Follow(cmd.Process.Pid)
			_, err = out.Read(make([]byte, 1))
			require.NoError(t, err)

			usage, err := g.Usage()
			require.NoError(t, err)
			assert.Greater(t, usage, 10*time.Millisecond)
			pids, err := g.Pids()
			require.NoError(t, err)
			assert.Len(t, pids, 2)
			m, err := g.Memory()
			require.NoError(t, err)
			assert.Positive(t, m.PSS)
			assert.GreaterOrEqual(t, m.RSS, m.PSS)
			assert.GreaterOrEqual(t, m.FDs, 6)
			in.Close()
			_ = cmd.Wait()
			g.Close()
			if g.Dir() != "" {
				assert.NoDirExists(t, g.Dir())
			}
		})
	}
}

// What is told to end ends, with what is being started meanwhile, and nothing begins after it.
func TestAccountsClose(t *testing.T) {
	a := OpenAccounts()
	if a.root == "" {
		t.Skip("no cgroup can be made here")
	}
	var all []*exec.Cmd
	for _, name := range []string{"one", "other"} {
		g, err := a.Group(name)
		require.NoError(t, err)
		cmd := exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && exec sleep 600`, g.Dir())
		require.NoError(t, cmd.Start())
		all = append(all, cmd) // it may be in the group by now, or not
	}
	a.Close()
	for _, cmd := range all {
		assert.Error(t, cmd.Wait())
	}
	assert.NoDirExists(t, a.root)
	_, err := a.Group("late")
	assert.EqualError(t, err, "the benchmark is being ended")
}

func TestShortPageLists(t *testing.T) {
	defer func(old string) { sysctls = old }(sysctls)
	sysctls = t.TempDir()
	is := func(want string) {
		t.Helper()
		b, err := os.ReadFile(sysctlPath(pageLists))
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
	restore, short := ShortPageLists()
	assert.False(t, short, "the kernel has no such setting")
	restore()
	require.NoError(t, os.Mkdir(filepath.Join(sysctls, "vm"), 0o755))
	for range 2 {
		require.NoError(t, os.WriteFile(sysctlPath(pageLists), []byte("0\n"), 0o644))
		restore, short = ShortPageLists()
		assert.True(t, short)
		is("1000")
		restore()
		restore()
		is("0")
	}
	require.NoError(t, os.WriteFile(sysctlPath(pageLists), []byte("64\n"), 0o644))
	restore, short = ShortPageLists()
	assert.True(t, short, "somebody has chosen")
	restore()
	is("64\n")
}

func TestFreePort(t *testing.T) {
	p, err := FreePort()
	require.NoError(t, err)
	assert.Positive(t, p)
	assert.NotEmpty(t, Machine())
	for _, a := range []*Accounts{{}, OpenAccounts()} {
		busy, err := a.Busy()
		require.NoError(t, err)
		assert.Positive(t, busy)
		a.Close()
	}
}

func TestSoftirqs(t *testing.T) {
	seen := false
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	require.NoError(t, err)
	for _, name := range names {
		b, _ := os.ReadFile(name)
		seen = seen || string(b) == "ksoftirqd/0\n"
	}
	if !seen { // another namespace of processes
		assert.Zero(t, Softirqs(0))
		return
	}
	first := Softirqs(0)
	assert.Positive(t, first)
	assert.GreaterOrEqual(t, Softirqs(0), first)
	assert.Zero(t, Softirqs(-1), "none is pinned to")
}
