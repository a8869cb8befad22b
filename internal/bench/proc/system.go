//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// busy is how long each processor has worked since the machine started.
func busy() ([]time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	return parseBusy(b)
}

// parseBusy reads /proc/stat: all but idle and waiting for disks.
func parseBusy(b []byte) (all []time.Duration, err error) {
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") || f[0] == "cpu" {
			continue
		}
		var sum int64
		for i, v := range f[1:9] { // user nice system idle iowait irq softirq steal
			if i == 3 || i == 4 {
				continue
			}
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return nil, err
			}
			sum += n
		}
		all = append(all, time.Duration(sum)*tick)
	}
	return all, s.Err()
}

// Memory is what a group holds.
type Memory struct {
	RSS, PSS int64
	FDs      int
}

// Memory sums over the group.
func (g *Group) Memory() (m Memory, err error) {
	pids, err := g.Pids()
	if err != nil {
		return m, err
	}
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		b, err := os.ReadFile(dir + "/smaps_rollup")
		if err != nil {
			continue // it has ended
		}
		rss, err := field(b, "Rss")
		if err != nil {
			continue // it is a zombie
		}
		pss, err := field(b, "Pss")
		if err != nil {
			return m, err
		}
		m.RSS += rss << 10
		m.PSS += pss << 10
		fds, err := os.ReadDir(dir + "/fd")
		if err != nil {
			return m, err
		}
		m.FDs += len(fds)
	}
	return m, nil
}

// Machine describes this machine in one line.
func Machine() string {
	model, n := "unknown processor", 0
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				n++
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s", n, model, strings.TrimSpace(string(kernel)))
}

// SetSysctl sets a value below /proc/sys.
func SetSysctl(name, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")), []byte(value), 0)
}
