package sock

import "golang.org/x/sys/unix"

// KeepAlive has the kernel find out when the peer of an idle socket is gone.
func KeepAlive(fd int) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		if err := SetInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// KeepAlive has the kernel find out when the peer is gone. It may be called concurrently
// with everything else, and more than once; even for what c was before Init: then it is
// done once too often, no more.
func (c *Conn) KeepAlive() {
	if !c.kept.CompareAndSwap(false, true) {
		return
	}
	c.mu.Lock() // so that the descriptor stays the connection's
	defer c.mu.Unlock()
	switch f := c.file.Load(); {
	case c.closed.Load():
	case f != nil:
		f.raw.Control(func(fd uintptr) { KeepAlive(int(fd)) })
	default:
		KeepAlive(int(c.fd.Load()))
	}
}
