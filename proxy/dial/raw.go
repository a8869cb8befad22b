package dial

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// The system calls of this file don't block: see proxy/sock.

func tryConnect(fd int, to netip.AddrPort) error {
	var sa unix.RawSockaddrAny
	size := sock.ToRaw(&sa, to)
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), size)
	return errno(e)
}

func bind(fd int, to netip.AddrPort) error {
	var sa unix.RawSockaddrAny
	size := sock.ToRaw(&sa, to)
	_, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), size)
	return errno(e)
}

// socket makes a non-blocking one.
func socket(family int) (int, error) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

func errno(e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}
