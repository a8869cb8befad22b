package resolve

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// udpConn is a connected UDP socket, which net.UDPConn is too, at the price of two more
// system calls and a dozen more allocations: a question has one of its own.
type udpConn struct {
	f  *os.File
	to netip.AddrPort
}

func dialUDP(to netip.AddrPort) (udpConn, error) {
	c := udpConn{to: to}
	var sa unix.Sockaddr
	domain := unix.AF_INET
	if a := to.Addr(); a.Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	} else {
		domain = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: a.As16(), ZoneId: zoneID(a.Zone())}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return c, c.wrong("dial", os.NewSyscallError("socket", err))
	}
	if err := unix.Connect(fd, sa); err != nil {
		_ = unix.Close(fd)
		return c, c.wrong("dial", os.NewSyscallError("connect", err))
	}
	c.f = os.NewFile(uintptr(fd), "udp")
	return c, nil
}

// zoneID is the interface of a zone, 0 for none.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

// read reads a datagram, which may be empty.
func (c udpConn) read(b []byte) (int, error) {
	n, err := c.f.Read(b)
	if err == io.EOF {
		return 0, nil
	}
	return n, c.wrong("read", err)
}

func (c udpConn) write(b []byte) error {
	_, err := c.f.Write(b)
	return c.wrong("write", err)
}

func (c udpConn) close() { _ = c.f.Close() }

// wrong is err as package net tells it.
func (c udpConn) wrong(op string, err error) error {
	if err == nil {
		return nil
	}
	if path, ok := errors.AsType[*os.PathError](err); ok {
		err = path.Err
	}
	return &net.OpError{Op: op, Net: "udp", Addr: net.UDPAddrFromAddrPort(c.to), Err: err}
}
