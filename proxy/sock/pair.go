package sock

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// pairBuffer is how much of what was sent at one end of a Pair, and not read at the other, the kernel
// holds at most at each of them. Left to itself it lets what waits at the sender grow to megabytes.
const pairBuffer = 128 << 10

// pairPatience is for how long the kernel may take for a connection on loopback, in ms.
const pairPatience = 1000

// Pair makes a TCP connection to itself: what is sent at one end comes out at the other. far
// is a bare descriptor. Ends come across as they are: that far was closed for writing is
// io.EOF at near; that it was closed whole is io.EOF and, since nobody takes any more there,
// PeerEnd's all; that it was reset, or closed with something unread, is ECONNRESET. A Unix
// socket would not tell a reset. It waits, but only for this host.
func Pair() (near *Conn, far int, err error) {
	l, at, err := listenOnce()
	if err != nil {
		return nil, -1, err
	}
	defer CloseFD(l)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socket", err)
	}
	far, err = join(fd, l, at)
	if err != nil {
		CloseFD(fd)
		return nil, -1, err
	}
	return New(fd, at), far, nil
}

// listenOnce listens at an address of loopback that nobody else has, for one connection.
func listenOnce() (fd int, at netip.AddrPort, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, at, os.NewSyscallError("socket", err)
	}
	// Of the whole of 127.0.0.0/8, so that ports do not run short.
	r := rand.Uint32()
	addr := &unix.SockaddrInet4{Addr: [4]byte{127, byte(r >> 16), byte(r >> 8), 1 + byte(r)%254}}
	for _, try := range []func() error{
		func() error {
			return os.NewSyscallError("setsockopt", SetInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, pairBuffer))
		},
		func() error { // which far gets, too
			return os.NewSyscallError("setsockopt", SetInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, pairBuffer))
		},
		func() error { return os.NewSyscallError("bind", unix.Bind(fd, addr)) },
		func() error { return os.NewSyscallError("listen", unix.Listen(fd, 1)) },
	} {
		if err := try(); err != nil {
			CloseFD(fd)
			return -1, at, err
		}
	}
	return fd, LocalName(fd), nil
}

// join connects fd to the listener at that address, and returns the other end.
func join(fd, listener int, at netip.AddrPort) (far int, err error) {
	SetInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, pairBuffer)
	SetInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, pairBuffer)
	SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())})
	if err != nil && err != unix.EINPROGRESS {
		return -1, os.NewSyscallError("connect", err)
	}
	for {
		far, from, err := tryAccept(listener)
		switch {
		case err == unix.EAGAIN:
			waiting := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
			if n, err := unix.Poll(waiting, pairPatience); n == 0 {
				return -1, errors.New("this host does not connect to itself on loopback")
			} else if err != nil && err != unix.EINTR {
				return -1, os.NewSyscallError("poll", err)
			}
			continue
		case err != nil:
			return -1, os.NewSyscallError("accept", err)
		case from != LocalName(fd): // somebody else's
			CloseFD(far)
			continue
		}
		SetInt(far, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		// Closed whole it resets what is behind its end, which tells it from closed for writing.
		return far, os.NewSyscallError("setsockopt", SetInt(far, unix.IPPROTO_TCP, unix.TCP_LINGER2, -1))
	}
}
