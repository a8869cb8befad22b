package dial

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// The system calls of this file don't block: see proxy/sock.

func tryConnect(fd int, to netip.AddrPort) error { return withAddr(unix.SYS_CONNECT, fd, to) }

func bind(fd int, to netip.AddrPort) error { return withAddr(unix.SYS_BIND, fd, to) }

// withAddr is a system call of a socket and an address.
func withAddr(call uintptr, fd int, a netip.AddrPort) error {
	var sa unix.RawSockaddrAny
	size := sock.ToRaw(&sa, a)
	if _, _, e := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&sa)), size); e != 0 {
		return e
	}
	return nil
}

// socket makes a non-blocking one.
func socket(family int) (int, error) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}
