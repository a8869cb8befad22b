package stepped

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What the test binary is told by its environment when it is to become another program.
const (
	programVariable = "STEPPED_PROGRAM"
	clockVariable   = "STEPPED_CLOCK"
)

// gate is the descriptor that the child reads until the listener has been fetched.
const gate = 3

// Here it is still the first thread, the one that becomes the program, and nothing else runs.
func init() {
	path := os.Getenv(programVariable)
	if path == "" {
		return
	}
	runtime.LockOSThread()
	fmt.Fprintln(os.Stderr, become(path))
	os.Exit(127)
}

// become makes the process the program; it returns when that fails.
func become(path string) error {
	prog, err := filter(os.Getenv(clockVariable) != "")
	if err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, programVariable+"=") || strings.HasPrefix(v, clockVariable+"=")
	})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	b := make([]byte, 1)
	for {
		if _, err := unix.Read(gate, b); err != unix.EINTR {
			break
		}
	}
	_ = unix.Close(gate)
	return fmt.Errorf("become %s: %w", path, unix.Exec(path, os.Args, env))
}

// Where seccomp_data has what.
const (
	dataNumber   = 0
	dataArgument = 16 // the low half of the first, as amd64 and arm64 have it
)

// filter has the calls wait that others may see the effect of, but for what is logged; with
// clock also the question what the wall clock says.
func filter(clock bool) ([]unix.SockFilter, error) {
	notify, allow := bpf.RetConstant{Val: unix.SECCOMP_RET_USER_NOTIF}, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	code := []bpf.Instruction{bpf.LoadAbsolute{Off: dataNumber, Size: 4}}
	for _, nr := range []uint32{unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_CONNECT} {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 1}, notify)
	}
	for _, nr := range []uint32{unix.SYS_WRITE, unix.SYS_WRITEV} {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 4},
			bpf.LoadAbsolute{Off: dataArgument, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: 2, SkipTrue: 1}, allow, notify)
	}
	if clock {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLOCK_GETTIME, SkipTrue: 4},
			bpf.LoadAbsolute{Off: dataArgument, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.CLOCK_REALTIME, SkipTrue: 1}, notify, allow)
	}
	raw, err := bpf.Assemble(append(code, allow))
	if err != nil {
		return nil, err
	}
	var prog []unix.SockFilter
	for _, i := range raw {
		prog = append(prog, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return prog, nil
}
