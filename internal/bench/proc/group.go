//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Accounts is where groups of processes are counted: a cgroup of its own, of
// version 1 or 2, or nothing, and then /proc is read.
type Accounts struct {
	root   string
	v1     bool
	closed atomic.Bool
}

// OpenAccounts makes a cgroup for this run, if the machine lets it.
func OpenAccounts() *Accounts {
	name := "sluice-bench-" + strconv.Itoa(os.Getpid())
	for _, base := range []string{"/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		v1 := strings.HasSuffix(base, "cpuacct")
		root := filepath.Join(base, name)
		if os.Mkdir(root, 0o755) != nil {
			continue
		}
		file := "cpu.stat"
		if v1 {
			file = "cpuacct.usage"
		}
		if _, err := os.Stat(filepath.Join(root, file)); err == nil {
			return &Accounts{root: root, v1: v1}
		}
		_ = os.Remove(root)
	}
	return &Accounts{}
}

// String says how processor time is measured.
func (a *Accounts) String() string {
	switch {
	case a.root == "":
		return "/proc/PID/stat, which counts in steps of 10 ms"
	case a.v1:
		return "cgroup cpuacct.usage"
	}
	return "cgroup cpu.stat"
}

// Busy is the processor time of all that runs on this machine.
func (a *Accounts) Busy() (sum time.Duration, err error) {
	if a.v1 {
		// To the nanosecond, as groups are counted; /proc/stat misses what sleeps between ticks.
		return readNanoseconds(filepath.Join(filepath.Dir(a.root), "cpuacct.usage"))
	}
	each, err := busy()
	for _, d := range each {
		sum += d
	}
	return sum, err
}

func readNanoseconds(path string) (time.Duration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return time.Duration(n), err
}

// Close ends what still runs in groups, and what is about to, and removes them. No group can
// be made from then on.
func (a *Accounts) Close() {
	a.closed.Store(true)
	if a.root == "" {
		return
	}
	for range 100 { // an ended process leaves a little later
		dirs, _ := os.ReadDir(a.root)
		for _, d := range dirs {
			if !d.IsDir() {
				continue
			}
			g := &Group{accounts: a, dir: filepath.Join(a.root, d.Name())}
			pids, _ := g.Pids()
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			_ = os.Remove(g.dir)
		}
		if os.Remove(a.root) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Group is a program with all its children.
type Group struct {
	accounts *Accounts
	dir      string
	pid      int // of the program, without a cgroup
}

// Group makes a group; names of groups that live at the same time differ.
func (a *Accounts) Group(name string) (*Group, error) {
	g := &Group{accounts: a}
	if a.closed.Load() {
		return nil, errors.New("the benchmark is being ended")
	}
	if a.root == "" {
		return g, nil
	}
	g.dir = filepath.Join(a.root, name)
	return g, os.Mkdir(g.dir, 0o755)
}

// Dir is the cgroup, or empty.
func (g *Group) Dir() string { return g.dir }

// Follow names the program, for machines without cgroups.
func (g *Group) Follow(pid int) { g.pid = pid }

// Close removes the group, whose processes have ended.
func (g *Group) Close() {
	if g.dir == "" {
		return
	}
	for range 100 { // an ended process leaves a little later
		if os.Remove(g.dir) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Usage is the processor time so far, of user and system together.
func (g *Group) Usage() (time.Duration, error) {
	switch {
	case g.dir == "":
		return g.usageByStat()
	case g.accounts.v1:
		return readNanoseconds(filepath.Join(g.dir, "cpuacct.usage"))
	}
	b, err := os.ReadFile(filepath.Join(g.dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	n, err := field(b, "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// Split is the processor time of user and of system, where a cgroup says it.
func (g *Group) Split() (user, system time.Duration, err error) {
	if g.dir == "" {
		return 0, 0, errors.New("without cgroups user and system are not told apart")
	}
	if !g.accounts.v1 {
		b, err := os.ReadFile(filepath.Join(g.dir, "cpu.stat"))
		if err != nil {
			return 0, 0, err
		}
		u, err := field(b, "user_usec")
		if err != nil {
			return 0, 0, err
		}
		s, err := field(b, "system_usec")
		return time.Duration(u) * time.Microsecond, time.Duration(s) * time.Microsecond, err
	}
	if user, err = readNanoseconds(filepath.Join(g.dir, "cpuacct.usage_user")); err != nil {
		return 0, 0, err
	}
	system, err = readNanoseconds(filepath.Join(g.dir, "cpuacct.usage_sys"))
	return user, system, err
}

// field is the number behind a name at the beginning of a line.
func field(b []byte, name string) (int64, error) {
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) >= 2 && strings.TrimSuffix(f[0], ":") == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %q", name)
}

// Pids are the processes of the group.
func (g *Group) Pids() ([]int, error) {
	if g.dir == "" {
		return descendants(g.pid)
	}
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// tick is the unit of /proc/stat and /proc/PID/stat on all of Linux's machines.
const tick = 10 * time.Millisecond

func (g *Group) usageByStat() (sum time.Duration, err error) {
	pids, err := descendants(g.pid)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		st, err := readStat(pid)
		if err != nil {
			continue // it has ended, and its parent counts it
		}
		sum += st.cpu
	}
	return sum, nil
}

type stat struct {
	ppid int
	cpu  time.Duration // with that of children that were waited for
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads /proc/PID/stat; the name in it may hold anything.
func parseStat(b []byte) (st stat, err error) {
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 15 {
		return st, fmt.Errorf("not a stat: %q", b)
	}
	if st.ppid, err = strconv.Atoi(f[1]); err != nil {
		return st, err
	}
	for _, s := range f[11:15] { // utime stime cutime cstime
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return st, err
		}
		st.cpu += time.Duration(n) * tick
	}
	return st, nil
}

// descendants are root and all below it.
func descendants(root int) ([]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil {
			parents[pid] = st.ppid
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		for pid, ppid := range parents {
			if ppid == all[i] && !slices.Contains(all, pid) {
				all = append(all, pid)
			}
		}
	}
	return all, nil
}
