package stepped

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// withoutVDSO waits until the traced child becomes the program, and takes away where it would
// find the vDSO, by which it would ask for the time without a system call. Then it lets it go.
// It runs on the thread that has started it.
func withoutVDSO(pid int) error {
	first := true
	for {
		var s unix.WaitStatus
		if _, err := unix.Wait4(pid, &s, unix.WALL, nil); err == unix.EINTR {
			continue
		} else if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		pass := 0
		switch {
		case !s.Stopped():
			return fmt.Errorf("it has ended: %v", s)
		case first:
			first = false
			if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXEC); err != nil {
				return fmt.Errorf("trace: %w", err)
			}
		case s.TrapCause() == unix.PTRACE_EVENT_EXEC:
			err := hideVDSO(pid)
			if detached := unix.PtraceDetach(pid); err == nil {
				err = detached
			}
			return err
		default:
			pass = int(s.StopSignal())
		}
		if err := unix.PtraceCont(pid, pass); err != nil {
			return fmt.Errorf("go on: %w", err)
		}
	}
}

// hideVDSO overwrites the entry of the vDSO in the auxiliary vector: on the stack, behind the
// arguments and the environment.
func hideVDSO(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var at int64 // startstack, field 28 of proc(5); behind the name are those from the third on
	if _, err := fmt.Sscan(fields[28-3], &at); err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	word := func() (v uint64) {
		b := make([]byte, 8)
		if _, e := mem.ReadAt(b, at); e != nil {
			err = e
		}
		at += 8
		return binary.NativeEndian.Uint64(b)
	}
	word() // argc
	for range 2 {
		for word() != 0 && err == nil {
		}
	}
	const ehdr, ignore = 33, 1 // AT_SYSINFO_EHDR, AT_IGNORE
	for err == nil {
		switch word() {
		case 0:
			return fmt.Errorf("there is no vDSO")
		case ehdr:
			_, err = mem.WriteAt(binary.NativeEndian.AppendUint64(nil, ignore), at-8)
			return err
		}
		word()
	}
	return err
}
