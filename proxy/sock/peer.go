package sock

import (
	"net"

	"golang.org/x/sys/unix"
)

// PeerEnd reports what the peer has ended: its half, so that it sends no more, or all, by a
// reset. It may be called concurrently with everything else; of a connection that is closed
// here it knows nothing.
func (c *Conn) PeerEnd() (half, all bool) {
	c.mu.Lock() // so that the descriptor stays the connection's
	defer c.mu.Unlock()
	var events int16
	switch f := c.file.Load(); {
	case c.closed.Load():
	case f != nil:
		f.raw.Control(func(fd uintptr) { events = tryPoll(int(fd), unix.POLLRDHUP) })
	default:
		events = tryPoll(int(c.fd.Load()), unix.POLLRDHUP)
	}
	return events&unix.POLLRDHUP != 0, events&(unix.POLLHUP|unix.POLLERR) != 0
}

// WasReset reports whether the peer has reset the connection, which it says once; what has
// come before can be read still.
func (c *Conn) WasReset() (reset bool) {
	c.Control(func(fd uintptr) {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		reset = err != nil || unix.Errno(n) == unix.ECONNRESET
	})
	return reset
}

// Progress is how far a connection has come, as the kernel knows it.
type Progress struct {
	Taken    uint64 // bytes that the peer has acknowledged
	Received uint64 // bytes that have come from it
	Waiting  bool   // there are bytes for it that could not be sent yet
	Untaken  bool   // there are those, or such that it has not acknowledged yet
	Unread   bool   // there are bytes of it that nobody has read here
}

// Progress asks the kernel. It may be called concurrently with everything else.
func (c *Conn) Progress() (p Progress, err error) {
	ask := func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err != nil {
			return
		}
		var unread int
		unread, err = Unread(int(fd))
		p = Progress{Taken: info.Bytes_acked, Received: info.Bytes_received,
			Waiting: info.Notsent_bytes > 0, Untaken: info.Notsent_bytes > 0 || info.Unacked > 0, Unread: unread > 0}
	}
	c.mu.Lock() // so that the descriptor stays the connection's
	defer c.mu.Unlock()
	switch f := c.file.Load(); {
	case c.closed.Load():
		return p, net.ErrClosed
	case f != nil:
		if e := f.raw.Control(ask); e != nil {
			return p, e
		}
	default:
		ask(uintptr(c.fd.Load()))
	}
	return p, err
}
