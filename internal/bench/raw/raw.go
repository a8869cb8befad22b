//go:build linux

// Package raw holds the few system calls that the load generator and the origin
// live on, without the runtime's bookkeeping: both are one goroutine on one thread
// that has nothing else to run, and must cost less than any proxy between them.
package raw

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Edge is the only interest that is ever registered: one call for a connection.
const Edge = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// Read reads into b. At the end of the stream n is 0 and the error too.
func Read(fd int, b []byte) (n int, err unix.Errno) {
	for {
		r, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e == unix.EINTR {
			continue
		}
		return int(r), e
	}
}

// Discard takes up to n bytes from the stream without copying them; b is at least
// n bytes that stay as they are.
func Discard(fd int, b []byte, n int) (int, unix.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(min(n, len(b))),
			unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		if e == unix.EINTR {
			continue
		}
		return int(r), e
	}
}

// Write writes b, or a part of it.
func Write(fd int, b []byte) (int, unix.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e == unix.EINTR {
			continue
		}
		return int(r), e
	}
}

// Close closes fd.
func Close(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Reset closes fd so that the other side sees a reset.
func Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	Close(fd)
}

// Accept takes one connection.
func Accept(fd int) (int, unix.Errno) {
	r, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(r), e
}

// Dial begins to connect to an IPv4 address.
func Dial(to *unix.RawSockaddrInet4) (int, unix.Errno) {
	r, _, e := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		return -1, e
	}
	_, _, e = unix.RawSyscall(unix.SYS_CONNECT, r, uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
	if e != 0 && e != unix.EINPROGRESS {
		Close(int(r))
		return -1, e
	}
	return int(r), 0
}

// Sockaddr is addr as the kernel wants it; only IPv4 will do.
func Sockaddr(addr string) (*unix.RawSockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	if !ap.Addr().Is4() {
		return nil, fmt.Errorf("%s is no IPv4 address", addr)
	}
	return &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ap.Port()<<8 | ap.Port()>>8, Addr: ap.Addr().As4()}, nil
}

// NoDelay switches Nagle's algorithm off.
func NoDelay(fd int) {
	one := int32(1)
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, uintptr(unsafe.Pointer(&one)), 4, 0)
}

// Poll is an epoll instance whose events carry a number of the caller's choice.
type Poll struct {
	fd     int
	events [256]unix.EpollEvent
}

// NewPoll makes one.
func NewPoll() (*Poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &Poll{fd: fd}, err
}

// Add registers fd for all that may happen to it, edge-triggered. To close fd ends it.
func (p *Poll) Add(fd, number int) unix.Errno {
	return p.add(fd, number, Edge)
}

// AddLevel registers fd for reading, level-triggered.
func (p *Poll) AddLevel(fd, number int) unix.Errno {
	return p.add(fd, number, unix.EPOLLIN)
}

func (p *Poll) add(fd, number int, events uint32) unix.Errno {
	ev := unix.EpollEvent{Events: events, Fd: int32(number)}
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return e
}

// Wait returns what is ready, at the latest after timeout; a negative one waits
// for ever.
func (p *Poll) Wait(timeout time.Duration) []unix.EpollEvent {
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	r, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events)), uintptr(unsafe.Pointer(ts)), 0, 0)
	if e != 0 {
		return nil
	}
	return p.events[:r]
}

// Close ends p.
func (p *Poll) Close() { Close(p.fd) }
