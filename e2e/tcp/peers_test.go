//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asPeers makes the test's own binary a process of [Clients] or of [Servers], which
// hold more connections than the test itself has descriptors for.
const asPeers = "TEST_AS_PEERS"

// servePeers does what it is told on standard input, until that ends.
func servePeers(kind string) int {
	var receiver any = &Clients{}
	if kind == "Servers" {
		receiver = newServers()
	}
	if err := rpc.RegisterName("Peers", receiver); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	rpc.ServeConn(stdio{os.Stdin, os.Stdout})
	return 0
}

// stdio is what a process is told, and where it answers.
type stdio struct {
	io.ReadCloser
	to io.WriteCloser
}

func (s stdio) Write(b []byte) (int, error) { return s.to.Write(b) }
func (s stdio) Close() error                { return errors.Join(s.to.Close(), s.ReadCloser.Close()) }

// peers is a process that runs until the test ends.
type peers struct {
	t testing.TB
	c *rpc.Client
}

func startPeers(t testing.TB, kind string) *peers {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asPeers+"="+kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &peers{t, rpc.NewClient(stdio{out, in})}
	t.Cleanup(func() {
		p.c.Close() // and it ends
		cmd.Wait()
	})
	return p
}

// tell has the process do what a method of its type does.
func (p *peers) tell(method string, args, reply any) {
	p.t.Helper()
	call := p.c.Go("Peers."+method, args, reply, nil)
	select {
	case <-call.Done:
		require.NoError(p.t, call.Error, method)
	case <-time.After(2 * time.Minute):
		p.t.Fatalf("%s is not done after two minutes", method)
	}
}

// Servers echo numbers on one port.
type Servers struct {
	l    net.Listener
	open atomic.Int64
}

func newServers() *Servers {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &Servers{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				panic(err)
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *Servers) serve(c net.Conn) {
	s.open.Add(1)
	defer s.open.Add(-1)
	defer c.Close()
	var b [digits]byte
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		if _, err := c.Write(b[:]); err != nil {
			return
		}
	}
}

// Addr is where they listen.
func (s *Servers) Addr(_ struct{}, addr *string) error {
	*addr = s.l.Addr().String()
	return nil
}

// Open is how many connections they have.
func (s *Servers) Open(_ struct{}, n *int64) error {
	*n = s.open.Load()
	return nil
}

// Clients are connections, each with a number of its own.
type Clients struct {
	mu    sync.Mutex
	conns []numbered
	next  int // number
	round int
}

type numbered struct {
	net.Conn
	n int
}

// digits is how long a number is on the wire.
const digits = 8

// say sends the number, and something to tell one round from the others.
func (c numbered) say(round int) error {
	_, err := fmt.Fprintf(c, "%0*d", digits, round*1e6+c.n)
	return err
}

// hear wants it back.
func (c numbered) hear(round int) error {
	var b [digits]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return fmt.Errorf("connection %d: %w", c.n, err)
	}
	if want := fmt.Sprintf("%0*d", digits, round*1e6+c.n); string(b[:]) != want {
		return fmt.Errorf("connection %d hears %q, not %q", c.n, b, want)
	}
	return nil
}

// Opening asks for connections to an address.
type Opening struct {
	Addr     string
	Count    int
	AtATime  int
	TillFull bool // stop at the first that is refused
}

// Opened is how it went. A connection is served when its number came back, and
// refused when it was reset; anything else is an error.
type Opened struct {
	Served, Refused int
	Slowest         time.Duration // to be served or refused
}

// Open opens connections and keeps those that are served.
func (c *Clients) Open(o Opening, got *Opened) error {
	left := o.Count
	worker := func() error {
		for {
			c.mu.Lock()
			if left == 0 || o.TillFull && got.Refused > 0 {
				c.mu.Unlock()
				return nil
			}
			left--
			n := c.next
			c.next++
			c.mu.Unlock()
			begin := time.Now()
			conn, err := open(o.Addr, n)
			c.mu.Lock()
			got.Slowest = max(got.Slowest, time.Since(begin))
			if err == nil {
				got.Served++
				c.conns = append(c.conns, conn)
			} else if isReset(err) {
				got.Refused++
			}
			c.mu.Unlock()
			if err != nil && !isReset(err) {
				return err
			}
		}
	}
	return together(o.AtATime, func(int) error { return worker() })
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func open(addr string, n int) (numbered, error) {
	conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return numbered{}, err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	c := numbered{conn, n}
	if err = c.say(0); err == nil {
		err = c.hear(0)
	}
	if err != nil {
		conn.Close()
	}
	return c, err
}

// Echo sends the numbers of all connections, then wants all of them back.
func (c *Clients) Echo(_ struct{}, n *int) error {
	const workers = 16
	c.round++
	for _, step := range []func(numbered, int) error{numbered.say, numbered.hear} {
		err := together(workers, func(w int) error {
			for i := w; i < len(c.conns); i += workers {
				if err := step(c.conns[i], c.round); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	*n = len(c.conns)
	return nil
}

// Close closes the oldest n.
func (c *Clients) Close(n int, _ *struct{}) error {
	for _, conn := range c.conns[:n] {
		conn.Close()
	}
	c.conns = c.conns[n:]
	return nil
}

// together runs n of f at the same time.
func together(n int, f func(int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
