package sock

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of this file don't block: the descriptors are non-blocking, and
// the rest has nothing to wait for. So they go to the kernel without telling the
// scheduler, as RawSyscall does. Told, it would look whether they last (a connect on
// loopback takes longer than its patience of 20 µs), hand the processor to another
// thread, and keep its watchdog awake 50,000 times a second: a tenth of what a short
// connection costs. The errors are bare unix.Errno values; EINTR never comes out.

// TryRead is recv(2), which the kernel gets to the socket sooner than read(2).
func TryRead(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// TryPeek is TryRead of what stays to be read.
func TryPeek(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_PEEK, 0, 0)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// discardMost is what one TryDiscard takes.
const discardMost = 1 << 20

// TryReadTwo is readv(2) into two buffers, neither of which is empty.
func TryReadTwo(fd int, a, b []byte) (int, error) {
	v := [2]unix.Iovec{{Base: &a[0]}, {Base: &b[0]}}
	v[0].SetLen(len(a))
	v[1].SetLen(len(b))
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&v)), 2)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// TryDiscard is recv(2) of bytes that nobody wants, which the kernel does not even copy.
func TryDiscard(fd int) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, discardMost, unix.MSG_TRUNC, 0, 0)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// Quiet reports whether there is nothing to read, nor an end or error to be seen, now. If
// there is, a byte of it may be gone.
func Quiet(fd int) bool {
	var b [1]byte
	_, err := TryRead(fd, b[:])
	return err == unix.EAGAIN
}

// TryWrite is send(2), for the same reason; whose peer is gone is told by EPIPE, not
// by a signal.
func TryWrite(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// TryWriteTwo is writev(2) of two buffers, of which either may be empty.
func TryWriteTwo(fd int, a, b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return TryWrite(fd, a)
	case len(a) == 0:
		return TryWrite(fd, b)
	}
	v := [2]unix.Iovec{{Base: &a[0]}, {Base: &b[0]}}
	v[0].SetLen(len(a))
	v[1].SetLen(len(b))
	for {
		n, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&v)), 2)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// TrySplice is splice(2) of up to n bytes from one descriptor to the other.
func TrySplice(from, to, n int) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if e != unix.EINTR {
			return result(n, e)
		}
	}
}

// Unread is ioctl(2) FIONREAD: how many bytes there are to read from a pipe or socket.
func Unread(fd int) (int, error) {
	var n int32
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	return int(n), errno(e)
}

// Unsent is ioctl(2) SIOCOUTQ: how many bytes the peer has not acknowledged yet.
func Unsent(fd int) (int, error) {
	var n int32
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	return int(n), errno(e)
}

// CloseFD is close(2) of a descriptor that no Conn has.
func CloseFD(fd int) error {
	_, _, e := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno(e)
}

// ShutdownWrite is shutdown(2) of the sending half.
func ShutdownWrite(fd int) error {
	_, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno(e)
}

// SetReset makes close(2) reset the connection.
func SetReset(fd int) error {
	linger := unix.Linger{Onoff: 1}
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	return errno(e)
}

// EpollCtl is epoll_ctl(2).
func EpollCtl(epoll, op, fd int, ev *unix.EpollEvent) error {
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	return errno(e)
}

// EpollPoll is epoll_wait(2) without waiting.
func EpollPoll(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	return result(n, e)
}

// SetInt is setsockopt(2) of an int.
func SetInt(fd, level, name, value int) error {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), 4, 0)
	return errno(e)
}

// tryAccept is accept4(2); the socket is non-blocking.
func tryAccept(fd int) (int, netip.AddrPort, error) {
	var sa unix.RawSockaddrAny
	for {
		size := uint32(unix.SizeofSockaddrAny)
		n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch e {
		case unix.EINTR:
			continue
		case 0:
			return int(n), fromRaw(&sa), nil
		}
		return -1, netip.AddrPort{}, e
	}
}

// LocalName is getsockname(2); of what is no socket of TCP/IP it is the zero AddrPort.
func LocalName(fd int) (a netip.AddrPort) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return a
	}
	return fromRaw(&sa)
}

// pollOut is poll(2) for writing, without waiting: 0 while a connect is under way.
func pollOut(fd int) (events int16) { return tryPoll(fd, unix.POLLOUT) }

// Readable reports whether a read would not wait: something has come, or an end.
func Readable(fd int) bool { return tryPoll(fd, unix.POLLIN) != 0 }

// tryPoll is poll(2), without waiting.
func tryPoll(fd int, wanted int16) (events int16) {
	p := unix.PollFd{Fd: int32(fd), Events: wanted}
	var zero unix.Timespec
	unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
	return p.Revents
}

// HungUp reports whether the peer has reset the connection, or both sides have closed
// their half.
func HungUp(fd int) bool { return pollOut(fd)&(unix.POLLHUP|unix.POLLERR) != 0 }

// Ended reports whether the peer has ended its half, or all.
func Ended(fd int) bool {
	return tryPoll(fd, unix.POLLRDHUP)&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

func result(n uintptr, e unix.Errno) (int, error) {
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

func errno(e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}
