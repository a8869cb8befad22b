package nettest

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FullQueue listens on a port of 127.0.0.1 that answers no handshake until accept is called:
// its queue is full, with a connection that accept returns first. The descriptors are
// closed when the test ends.
func FullQueue(t testing.TB) (addr netip.AddrPort, accept func() (fd int)) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatalf("a port with a full queue: %v", err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	t.Cleanup(func() { unix.Close(fd) })
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	must(err)
	addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	first, err := net.Dial("tcp", addr.String())
	must(err)
	t.Cleanup(func() { first.Close() })
	return addr, func() int {
		t.Helper()
		conn, _, err := unix.Accept(fd)
		must(err)
		t.Cleanup(func() { unix.Close(conn) })
		return conn
	}
}
