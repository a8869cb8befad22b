//go:build linux

// Package proc starts the programs of a benchmark, each in its own place, and
// measures them: processor time, memory and descriptors of a program and all its
// children, and how much processor time others took meanwhile.
package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Place is where a program runs.
type Place struct {
	CPU    int    // -1: anywhere
	Cgroup string // folder; empty: none
	Nice   int    // of the scheduler; below 0 needs root
	Clock  bool   // write Now to descriptor 3 right before the program begins
}

// Exec becomes the program argv[0] at a place: it is what [Command] runs first.
// Standard input of a program that does not read it is /dev/null already.
func Exec(p Place, argv []string) error {
	if p.Cgroup != "" {
		if err := os.WriteFile(filepath.Join(p.Cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return err
		}
	}
	if err := Pin(p.CPU); err != nil {
		return err
	}
	if p.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, p.Nice); err != nil {
			return fmt.Errorf("nice %d: %w", p.Nice, err)
		}
	}
	// The runtime has raised the soft limit for itself only: give it on.
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if p.Clock {
		fd := 3
		unix.CloseOnExec(fd)
		if _, err := fmt.Fprintln(os.NewFile(uintptr(fd), "clock"), int64(Now())); err != nil {
			return err
		}
	}
	return syscall.Exec(path, argv, os.Environ())
}

// Now is the time of a clock that all processes share.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // Linux has it
	}
	return time.Duration(ts.Nano())
}

// Pin binds this process to one processor, all its threads.
func Pin(cpu int) error {
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("pin to processor %d: %w", cpu, err)
		}
	}
	return nil
}

// Command is a command that runs argv at p by way of this program's own "exec".
func Command(p Place, argv ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append([]string{"exec", strconv.Itoa(p.CPU), strconv.Itoa(p.Nice), p.Cgroup, strconv.FormatBool(p.Clock), "--"}, argv...)
	return exec.Command(self, args...), nil
}

// ExecArgs does what [Command] asks for.
func ExecArgs(args []string) error {
	if len(args) < 6 || args[4] != "--" {
		return errors.New("exec wants CPU NICE CGROUP CLOCK -- PROGRAM …")
	}
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	nice, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return Exec(Place{CPU: cpu, Nice: nice, Cgroup: args[2], Clock: args[3] == "true"}, args[5:])
}
