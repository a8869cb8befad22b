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
	congestion, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return fmt.Sprintf("%d × %s, Linux %s, TCP by %s", n, model, strings.TrimSpace(string(kernel)), strings.TrimSpace(string(congestion)))
}

// SetSysctl sets a value below /proc/sys.
func SetSysctl(name, value string) error {
	return os.WriteFile(sysctlPath(name), []byte(value), 0)
}

// sysctls is where the kernel's settings are; tests have another place.
var sysctls = "/proc/sys"

func sysctlPath(name string) string {
	return filepath.Join(sysctls, strings.ReplaceAll(name, ".", "/"))
}

// Softirqs is how long the kernel's thread for softirqs of a processor has worked: it
// carries segments through the stack that no process got to. It is 0 when there is
// none to be seen.
func Softirqs(cpu int) time.Duration {
	pid, ok := softirqThread(cpu)
	if !ok {
		return 0
	}
	b, err := os.ReadFile("/proc/" + pid + "/schedstat")
	if err != nil {
		return 0
	}
	ran, _, _ := strings.Cut(string(b), " ")
	ns, _ := strconv.ParseInt(ran, 10, 64)
	return time.Duration(ns)
}

// softirqThread finds it by its name: the kernel starts such threads early, so it is
// among the first.
func softirqThread(cpu int) (pid string, ok bool) {
	name := fmt.Sprintf("ksoftirqd/%d\n", cpu)
	for i := 2; i < 100+20*(cpu+1); i++ {
		pid = strconv.Itoa(i)
		if b, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil && string(b) == name {
			return pid, true
		}
	}
	return "", false
}
