// Package dial makes the connections that leave this host. Only what puts a gate together
// (proxy/outbound) imports it: nobody else can connect to anything.
package dial

import (
	"context"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Dialer makes connections. The zero Dialer is that of a gateway whose source addresses are
// always its own.
type Dialer struct {
	// Held says that source addresses are held in turn with others (--holder): they may be
	// fenced for a while, and let out again. Connections from them live through that for
	// [Outlive], and go on within a second of its end.
	Held bool
}

// TCP is that of the zero Dialer.
func TCP(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
	return Dialer{}.TCP(ctx, source, dst)
}

// Begin is that of the zero Dialer.
func Begin(c *sock.Conn, source netip.Addr, dst netip.AddrPort) (connecting bool, err error) {
	return Dialer{}.Begin(c, source, dst)
}

// TCP connects to dst from source; an invalid one leaves the choice to the kernel.
// Small writes are not held back (TCP_NODELAY). The error is that of the kernel, or
// of ctx, which bounds the whole.
//
// The port is chosen by connect(2), which may use one port towards many
// destinations, so that a source carries more than 28,000 connections.
func (d Dialer) TCP(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := new(sock.Conn)
	connecting, err := d.Begin(c, source, dst)
	if connecting {
		err = c.Blocking().Wait(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Begin is TCP without waiting, for a sock.Conn as Init takes it: connecting says
// that the handshake is under way. Then it is over when the descriptor takes bytes, which
// Connected must be asked about, or Wait, before anything else is done with the
// connection.
func (d Dialer) Begin(c *sock.Conn, source netip.Addr, dst netip.AddrPort) (connecting bool, err error) {
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := socket(family)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	c.Init(fd, dst)
	over := false
	if err = d.begin(fd, source, dst); err == nil {
		over, err = c.Connected() // as it is by now on the same node
	}
	if err != nil {
		c.Close()
		return false, err
	}
	return !over, nil
}

// begin makes the socket what it is to be, and begins the handshake.
func (d Dialer) begin(fd int, source netip.Addr, dst netip.AddrPort) error {
	if err := sock.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if source.IsValid() {
		if err := sock.SetInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		if err := bind(fd, netip.AddrPortFrom(source, 0)); err != nil {
			return os.NewSyscallError("bind", err)
		}
		if d.Held {
			if err := outlive(fd); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	switch err := tryConnect(fd, dst); err {
	case nil, unix.EINPROGRESS, unix.EINTR: // interrupted, it goes on all the same
		return nil
	default:
		return os.NewSyscallError("connect", err)
	}
}
