// Package terminate takes clients that come to the proxy by TLS (RFC 8446), and hands each on
// as one that came in plain: the front door serves one end of a pair on loopback, and here
// bytes and ends are carried between its other end and the client. So whatever holds for a
// plain client (limits, time limits, giving way, resets, half-closed connections) holds for
// one with TLS, by the same code.
//
// A client costs two goroutines, and two descriptors beyond those that the front door counts.
// While nothing moves it holds no buffer of this package.
package terminate

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// descriptors is what a client costs beyond what the front door counts: its own, and one end
// of the pair.
const descriptors = 2

// Options is what a Terminator uses. Serve and HandshakeTimeout are required.
type Options struct {
	// Serve has the front door serve a client: the descriptor is its from then on. It is
	// called before the handshake, so that who does not come to its end is bounded and gives
	// way as every client does that says nothing; nothing comes out of the descriptor before
	// the handshake is over. It is called concurrently.
	Serve func(fd int, c *Client)

	HandshakeTimeout time.Duration
	FloodWait        time.Duration // for how long a handshake waits since many of its client have failed, or begun; zero: a second
	// Often is how many handshakes a second a client's may be, on the average, that come to a
	// good end; 0, or nil: as many as it likes. It is called for each, concurrently.
	Often  func(client Account) int
	Budget *fdbudget.Budget // of descriptors; nil: no limit
	// Announced says whose connections begin with a header of the PROXY protocol, in front of
	// the handshake: the front door reads that. nil: nobody's.
	Announced func(netip.Addr) bool
	Report    contain.Reporter                       // is told of panics; nil: nobody is
	Refused   func(client netip.AddrPort, err error) // is told of handshakes that fail; nil: nobody is
	Waits     func()                                 // is told of those that have to wait for others of their client; nil: nobody is
}

// Keys are what clients are shown, and whom they may show to be. Make them with NewKeys; they
// never change.
type Keys struct {
	clientCAs *x509.CertPool
	config    *tls.Config
}

// NewKeys returns those with that certificate of the gateway, and those CAs of certificates of
// clients; nil: clients are asked for none. A client may come without one all the same: whether
// it is wanted is a matter of its tenant. They agree on the first of those protocols that they
// speak (RFC 7301); none is said: HTTP/1.1.
func NewKeys(certificate tls.Certificate, clientCAs *x509.CertPool, offer ...string) *Keys {
	if len(offer) == 0 {
		offer = []string{"http/1.1"}
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   offer,
		Certificates: []tls.Certificate{certificate},

		GetConfigForClient: take,
	}
	k := &Keys{clientCAs: clientCAs, config: c}
	if clientCAs != nil {
		// A session that is taken up again would bring its certificate along: each connection
		// shows it anew. What is shown is verified by verify, which bounds what that costs.
		c.ClientAuth, c.ClientCAs, c.SessionTicketsDisabled = tls.RequestClientCert, clientCAs, true
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			_, err := verify(s.PeerCertificates, clientCAs)
			return err
		}
	}
	return k
}

// Terminator takes clients. Make it with New. Its methods may be called concurrently.
type Terminator struct {
	Options
	keys atomic.Pointer[Keys] // nil: nobody is let in; changed under mu

	turns    chan struct{} // of handshakes, see turn
	shares   shares
	ctx      context.Context // ends when everybody is cut
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	entering sync.WaitGroup // those taken whom Serve has not been called for yet

	mu      sync.Mutex
	clients map[*Client]struct{}
}

// New returns a Terminator that lets nobody in before SetKeys.
func New(o Options) *Terminator {
	t := &Terminator{Options: o, clients: map[*Client]struct{}{}, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	t.FloodWait, t.shares.mayOften = cmp.Or(t.FloodWait, waitMost), t.Often
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// SetKeys puts k in force for the handshakes that begin from now on. Certificates that clients
// have shown before stand only as far as k's CAs say so too. It is for one goroutine.
func (t *Terminator) SetKeys(k *Keys) {
	was, there := t.swap(k)
	if was != nil && (was.clientCAs == k.clientCAs || was.clientCAs != nil && k.clientCAs != nil && was.clientCAs.Equal(k.clientCAs)) {
		return
	}
	for _, c := range there {
		c.judge(k.clientCAs)
	}
}

// swap makes k the keys, and returns those before and who is there.
func (t *Terminator) swap(k *Keys) (was *Keys, there []*Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.clients {
		there = append(there, c)
	}
	return t.keys.Swap(k), there
}

// Take takes the client that has connected, and returns at once. The connection is t's from
// then on.
func (t *Terminator) Take(conn *sock.Conn) {
	if t.ctx.Err() != nil || !t.Budget.Take(descriptors) && (t.CutLate(descriptors) == 0 || !t.Budget.Take(descriptors)) {
		conn.Close() // there are no words before the handshake
		return
	}
	t.entering.Add(1)
	t.wg.Go(func() {
		c := &Client{from: conn.Remote(), conn: conn, budget: t.Budget}
		defer c.release()
		defer t.Report.Recover(func() { conn.Close() })
		t.serve(c)
	})
}

// CutLate cuts clients whom the front door is done with, and who have not taken all of what it
// has sent them; the longest first, until n descriptors are free. It returns how many are.
func (t *Terminator) CutLate(n int) (freed int) {
	for freed < n {
		c := t.latest()
		if c == nil {
			return freed
		}
		if c.cut() {
			freed += descriptors
		}
	}
	return freed
}

// latest is who has been late for longest and is not cut; nil: nobody is late.
func (t *Terminator) latest() (first *Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.clients {
		if at := c.late.Load(); at != 0 && !c.released.Load() && (first == nil || at < first.late.Load()) {
			first = c
		}
	}
	return first
}

// serve serves one client to the end.
func (t *Terminator) serve(c *Client) {
	conn := c.conn
	defer conn.Close()
	conn.KeepAlive()
	near, err := t.handOn(c)
	if err != nil {
		t.refused(c.from, err)
		return
	}
	defer near.Close()
	c.near.Store(near)
	t.enter(c)
	defer t.leave(c)
	cut := context.AfterFunc(t.ctx, func() {
		conn.ResetOnClose()
		conn.Close()
		near.Close()
	})
	defer cut()
	newRelay(t, c, conn.Blocking(), near.Blocking()).run()
}

// handOn has the front door serve c, and returns this end of what that does.
func (t *Terminator) handOn(c *Client) (near *sock.Conn, err error) {
	defer t.entering.Done()
	near, far, err := sock.Pair()
	if err == nil {
		t.Serve(far, c)
	}
	return near, err
}

func (t *Terminator) refused(client netip.AddrPort, err error) {
	if t.Refused != nil {
		t.Refused(client, err)
	}
}

func (t *Terminator) enter(c *Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients[c] = struct{}{}
}

// show takes down what c has shown in its handshake, by those keys.
func (t *Terminator) show(c *Client, state tls.ConnectionState, by *Keys) {
	if by.clientCAs == nil || len(state.PeerCertificates) == 0 {
		return
	}
	c.show(state.PeerCertificates)
	for {
		c.judge(by.clientCAs)
		now := t.keys.Load()
		if now == by {
			return
		}
		by = now // and those who were there then have been judged, maybe before this one was
	}
}

func (t *Terminator) leave(c *Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.clients, c)
}

// Len is how many clients there are, those among them that the front door is done with.
func (t *Terminator) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.clients)
}

// Settle returns when the front door has been told of everybody who was taken.
func (t *Terminator) Settle() { t.entering.Wait() }

// Wait returns when no client is left, or cuts those that are when ctx ends. The front door has
// none any more by then: what is left is on its way to clients that take their time.
func (t *Terminator) Wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	t.wg.Wait()
	t.cancel()
}
