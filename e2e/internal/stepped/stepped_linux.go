package stepped

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call that is about to be done.
type Call struct {
	Name string // of the call
	To   string // what it is done with: netlink, packet, unix, inet, raw, or a file
	Data []byte // what is sent, up to its first 4 KiB; of several parts the first
}

func (c Call) String() string { return c.Name + " " + c.To }

// Process is a program that was started by [Start]. Its methods may be called concurrently.
type Process struct {
	pid      int
	listener int

	mu     sync.Mutex
	which  func(Call) bool
	left   int // calls until at
	counts int
	at     func(Call) (goOn <-chan struct{})
	shift  time.Duration
}

// Start starts cmd, whose path and arguments are the program's, on the calling thread, which is
// locked and in the program's namespaces. With clock the program asks for the wall clock by a
// system call, whose answer Shift moves. Who starts it waits for its end.
func Start(cmd *exec.Cmd, clock bool) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd.Env = append(cmd.Env, programVariable+"="+cmd.Path)
	cmd.Path, cmd.ExtraFiles = self, []*os.File{r} // which is gate
	if clock {
		cmd.Env = append(cmd.Env, clockVariable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	}
	err = cmd.Start()
	r.Close()
	if err != nil {
		return nil, err
	}
	p := &Process{pid: cmd.Process.Pid}
	fetched := make(chan error, 1)
	fetch := func() {
		var err error
		if p.listener, err = listenerOf(p.pid); err == nil {
			go p.serve()
		}
		w.Close()
		fetched <- err
	}
	if clock {
		go fetch()
		err = withoutVDSO(p.pid)
	} else {
		fetch()
	}
	if err := errors.Join(err, <-fetched); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("run %s stepped: %w", cmd.Args[0], err)
	}
	return p, nil
}

// listenerOf fetches the listener of the filter from the child.
func listenerOf(pid int) (int, error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		files, err := os.ReadDir(dir)
		if err != nil {
			return -1, err
		}
		for _, f := range files {
			if to, _ := os.Readlink(filepath.Join(dir, f.Name())); to != "anon_inode:seccomp notify" {
				continue
			}
			n, err := strconv.Atoi(f.Name())
			if err != nil {
				return -1, err
			}
			return fetchFD(pid, n)
		}
	}
	return -1, errors.New("it has installed no filter")
}

func fetchFD(pid, fd int) (int, error) {
	of, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(of)
	return unix.PidfdGetfd(of, fd, 0)
}

// At has do called in place of the n-th call from now on of those that which selects (nil: all).
// The call is done when the channel that do returns is closed; nil: at once. It counts anew.
func (p *Process) At(n int, which func(Call) bool, do func(Call) (goOn <-chan struct{})) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.which, p.left, p.counts, p.at = which, n, 0, do
}

// Count is how many calls there were since At.
func (p *Process) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Shift is by how much the program's wall clock is wrong from now on.
func (p *Process) Shift(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shift = d
}

// notification and response are the kernel's struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	ID    uint64
	PID   uint32
	Flags uint32
	Nr    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

// serve lets one call after the other go on, until the process has ended.
func (p *Process) serve() {
	defer unix.Close(p.listener)
	for {
		fds := []unix.PollFd{{Fd: int32(p.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		switch {
		case fds[0].Revents&unix.POLLIN != 0:
		case fds[0].Revents != 0:
			return // nobody has the filter any more
		default:
			continue
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it was killed meanwhile
		}
		r := p.answer(&n)
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(p.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

// answer waits until a call may go on.
func (p *Process) answer(n *notification) response {
	goOn := response{ID: n.ID, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if n.Nr == unix.SYS_CLOCK_GETTIME {
		p.mu.Lock()
		shift := p.shift
		p.mu.Unlock()
		if shift != 0 && p.tell(n, time.Now().Add(shift)) == nil {
			return response{ID: n.ID}
		}
		return goOn
	}
	c := Call{Name: callNames[n.Nr], To: p.what(n)}
	if c.To == "anon_inode:[eventfd]" { // by which the runtime wakes itself
		return goOn
	}
	switch n.Nr {
	case unix.SYS_WRITE, unix.SYS_SENDTO:
		c.Data = p.data(n.Args[1], n.Args[2])
	case unix.SYS_WRITEV:
		c.Data = p.first(n.Args[1])
	case unix.SYS_SENDMSG:
		var m unix.Msghdr
		if b := p.data(n.Args[1], uint64(unsafe.Sizeof(m))); len(b) == int(unsafe.Sizeof(m)) {
			c.Data = p.first(binary.NativeEndian.Uint64(b[unsafe.Offsetof(m.Iov):]))
		}
	}
	p.mu.Lock()
	var do func(Call) <-chan struct{}
	if p.which == nil || p.which(c) {
		p.counts++
		if p.left--; p.left == 0 {
			do = p.at
		}
	}
	p.mu.Unlock()
	if do != nil {
		if wait := do(c); wait != nil {
			<-wait
		}
	}
	return goOn
}

var callNames = map[int32]string{unix.SYS_WRITE: "write", unix.SYS_WRITEV: "writev", unix.SYS_SENDTO: "sendto", unix.SYS_SENDMSG: "sendmsg", unix.SYS_CONNECT: "connect"}

var domainNames = map[int]string{unix.AF_NETLINK: "netlink", unix.AF_PACKET: "packet", unix.AF_UNIX: "unix", unix.AF_INET: "inet", unix.AF_INET6: "inet"}

// what is what a call is done with.
func (p *Process) what(n *notification) string {
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.pid, int32(n.Args[0])))
	if err != nil || len(to) < 7 || to[:7] != "socket:" {
		return to
	}
	fd, err := fetchFD(p.pid, int(int32(n.Args[0])))
	if err != nil {
		return to
	}
	defer unix.Close(fd)
	domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if kind == unix.SOCK_RAW && domainNames[domain] == "inet" {
		return "raw"
	}
	return domainNames[domain]
}

// data is what is at an address of the program; nothing when that cannot be read.
func (p *Process) data(at, length uint64) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, min(length, 4<<10))
	n, _ := f.ReadAt(b, int64(at))
	return b[:n]
}

// first is what the first struct iovec at an address is about.
func (p *Process) first(at uint64) []byte {
	b := p.data(at, 16)
	if len(b) < 16 {
		return nil
	}
	return p.data(binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[8:]))
}

// tell writes a time where the call wants it.
func (p *Process) tell(n *notification, t time.Time) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	ts := unix.NsecToTimespec(t.UnixNano())
	_, err = f.WriteAt(unsafe.Slice((*byte)(unsafe.Pointer(&ts)), unsafe.Sizeof(ts)), int64(n.Args[1]))
	return err
}
