// Package sock is TCP connections that the runtime's poller does not know before
// somebody has to wait for one.
//
// A net.TCPConn is entered into the poller when it is made, and asks the kernel for
// both of its addresses. A tunnel has no use for that: it waits by an epoll set of
// its own, and what comes before it (a request head that is there already, a
// connect that succeeds at once) often needs no waiting. So a Conn begins as a bare
// descriptor, and the first try that would block hands it to the runtime.
package sock

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one connection, as an event loop has it: no method of it waits for the peer. Its
// Blocking has those that do. Deadlines may be set concurrently with all other methods. Until
// the first try has blocked, or a deadline was set, the others are for one goroutine; after
// that, as with net.TCPConn, Read, Write and Close may be called concurrently.
type Conn struct {
	connLife

	mu     sync.Mutex            // held to change what follows
	fd     atomic.Int32          // of a bare connection; -1: closed, or another's
	file   atomic.Pointer[known] // once the runtime waits for it
	closed atomic.Bool           // Close or Detach was called
	kept   atomic.Bool           // KeepAlive was called

	outFn func(fd uintptr) bool // tryOut, bound once
}

// connLife is what a Conn knows of the connection that it is now.
type connLife struct {
	remote, local netip.AddrPort // local is known of those that were dialled

	out, out2 []byte // what Write has left to send
	outErr    error  // why it ended
}

// known is a connection as the runtime knows it.
type known struct {
	*os.File
	raw syscall.RawConn
}

// New makes a Conn of a connected, non-blocking socket, which is the Conn's from
// then on.
func New(fd int, remote netip.AddrPort) *Conn {
	c := new(Conn)
	c.Init(fd, remote)
	return c
}

// Init is New for a Conn that was not used before, or one that is closed or detached and
// that nobody uses any more. What comes too late for its former life finds it closed, or
// its new life.
func (c *Conn) Init(fd int, remote netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connLife = connLife{remote: remote}
	c.file.Store(nil)
	c.fd.Store(int32(fd))
	c.closed.Store(false)
	c.kept.Store(false) // last: see KeepAlive
}

// wait hands the connection to the runtime, if it is not yet.
func (c *Conn) wait() (*known, error) {
	if f := c.file.Load(); f != nil {
		return f, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.file.Load(); f != nil {
		return f, nil
	}
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	f := os.NewFile(uintptr(c.fd.Load()), "tcp")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := &known{f, raw}
	c.outFn = c.tryOut
	c.fd.Store(-1)
	c.file.Store(k)
	return k, nil
}

// Bare returns the descriptor if the runtime does not know it: who has the Conn may use
// it at once.
func (c *Conn) Bare() (fd int, ok bool) {
	fd = int(c.fd.Load())
	return fd, fd >= 0
}

// Control calls f with the descriptor, which stays open meanwhile.
func (c *Conn) Control(f func(fd uintptr)) error {
	if fd, ok := c.Bare(); ok {
		f(uintptr(fd))
		return nil
	}
	k, err := c.wait()
	if err != nil {
		return err
	}
	return c.plain(k.raw.Control(f))
}

// plain strips what os says around an error.
func (c *Conn) plain(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if c.closed.Load() {
		return net.ErrClosed
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// Close closes the connection. What waits for it ends with net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if f := c.file.Load(); f != nil {
		return f.Close()
	}
	return CloseFD(int(c.fd.Swap(-1)))
}

// Detach takes the descriptor out of the Conn, which is as good as closed then. The
// caller closes it.
func (c *Conn) Detach() (fd int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return -1, net.ErrClosed
	}
	if f := c.file.Load(); f != nil {
		defer f.Close() // which the runtime's poller is told of; the duplicate keeps the connection
		return duplicate(f.raw)
	}
	return int(c.fd.Swap(-1)), nil
}

// Reclaim makes a bare connection of one that the runtime knows. Nobody may use it
// meanwhile.
func (c *Conn) Reclaim() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file.Load()
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case f == nil:
		return nil
	}
	fd, err := duplicate(f.raw)
	if err != nil {
		return err
	}
	f.Close()
	c.file.Store(nil)
	c.fd.Store(int32(fd))
	return nil
}

func duplicate(raw syscall.RawConn) (fd int, err error) {
	fd = -1
	if e := raw.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0)
	}); e != nil {
		return -1, e
	}
	return fd, os.NewSyscallError("fcntl", err)
}

// CloseWrite says that no more will be written.
func (c *Conn) CloseWrite() (err error) {
	if e := c.Control(func(fd uintptr) { err = ShutdownWrite(int(fd)) }); e != nil {
		return e
	}
	return os.NewSyscallError("shutdown", err)
}

// ResetOnClose has Close reset the connection, so that the peer does not take what
// it was sent for the whole.
func (c *Conn) ResetOnClose() {
	c.Control(func(fd uintptr) { SetReset(int(fd)) })
}

// Share is called before several goroutines use the connection at once. An error
// shows up again in whatever they do.
func (c *Conn) Share() { c.wait() }

// SetDeadline bounds reads and writes, those that wait already too; the zero time
// lifts the bound.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.deadline((*os.File).SetDeadline, t)
}

// SetReadDeadline bounds reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.deadline((*os.File).SetReadDeadline, t)
}

// SetWriteDeadline bounds writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.deadline((*os.File).SetWriteDeadline, t)
}

func (c *Conn) deadline(set func(*os.File, time.Time) error, t time.Time) error {
	f, err := c.wait()
	if err != nil {
		return err
	}
	return c.plain(set(f.File, t))
}

// Remote is the peer's address.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// RemoteAddr is Remote for users of net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// Local is this end's address. Of a connection that was accepted the kernel is
// asked, and a closed one has none.
func (c *Conn) Local() netip.AddrPort {
	if c.local.IsValid() {
		return c.local
	}
	return c.askLocal()
}

func (c *Conn) askLocal() (a netip.AddrPort) {
	c.Control(func(fd uintptr) { a = LocalName(int(fd)) })
	return a
}

// LocalAddr is Local for users of net.Conn.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.Local()) }
