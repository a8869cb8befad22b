// Package serving is how sluice-kube hold, which knows whose turn it is, and the proxies of its
// pod speak with each other, on a Unix socket: what is held, when to drain, and that a proxy
// serves, wants to leave, or has drained. A proxy serves as long as its connection is there.
package serving

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// Protocol is what is said on the socket.
var Protocol = peer.Protocol{Name: "the protocol of serving", Version: 1}

// maxLine is the length of the longest line, in bytes.
const maxLine = 64 << 10

// Told is a line to a proxy.
type Told struct {
	// Held, if not nil, is what is held from now on: the addresses to connect from. None:
	// another replica's turn it is.
	Held *Held `json:"held,omitempty"`
	// Cut: end what is open now, since it began before the addresses were ours.
	Cut bool `json:"cut,omitempty"`
	// Drain, if not 0, is how many milliseconds the proxy has to end what it serves. It answers
	// with Drained.
	Drain int64 `json:"drain_ms,omitempty"`
}

// Held is a group of addresses, and who holds it.
type Held struct {
	Group string       `json:"group,omitempty"` // "": none is held
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Fenced: nothing leaves from them for now. What is open stays.
	Fenced bool `json:"fenced,omitempty"`
}

// Said is a line of a proxy's.
type Said struct {
	Leaving bool `json:"leaving,omitempty"` // it was told to end, and waits for Drain
	Drained bool `json:"drained,omitempty"` // it takes nobody any more, and nothing is open
}

// Proxy is the proxy's end of a connection. Who has it closes it.
type Proxy struct{ conn *peer.Conn }

// Dial connects to sluice-kube hold at a Unix socket, as a program of that version. From then
// on the proxy counts as serving.
func Dial(ctx context.Context, path, version string) (*Proxy, error) {
	nc, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	c := peer.New(nc, maxLine)
	if err := errors.Join(c.Greet(Protocol, version, "sluice-kube hold"), c.Within(0)); err != nil {
		nc.Close()
		return nil, err
	}
	return &Proxy{c}, nil
}

// Receive waits for the next line.
func (p *Proxy) Receive() (t Told, err error) {
	err = p.conn.Receive(&t)
	return t, err
}

// Say sends a line. It may be called concurrently.
func (p *Proxy) Say(s Said) error { return p.conn.Send(s) }

// Close ends the connection: the proxy serves no more.
func (p *Proxy) Close() { p.conn.Close() }
