package holding

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// ErrRefused is the error of a commit that came too late, or twice, or for nothing. The
// attempt has ended by it.
var ErrRefused = errors.New("refused")

// ErrDisconnected is the error of what has no answer since the connection has ended. It may
// have been done, or be done yet.
var ErrDisconnected = errors.New("the connection to sluice-netsetup hold has ended")

// maxEvents is how many events wait for whoever takes them. More end the connection.
const maxEvents = 256

// Client is a connection to a server. It does not come back when it has ended: who has it
// connects anew, and asks for the status. Its methods may be called concurrently; the error
// of ctx is returned when there was no answer in time, and what was asked for may have been
// done, or be done yet.
type Client struct {
	conn   *peer.Conn
	events chan Event

	mu    sync.Mutex // guards what is below
	last  uint64
	asked map[uint64]chan answer // nil: the connection has ended
	err   error                  // why
}

// Dial connects to the server at a Unix socket, as a program of that version. Who has the
// client closes it, or takes its events until they end.
func Dial(ctx context.Context, path, version string) (*Client, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c := &Client{conn: peer.New(nc, maxLine), events: make(chan Event, maxEvents), asked: map[uint64]chan answer{}}
	err = c.conn.Greet(Protocol, version, "sluice-netsetup hold")
	if err == nil {
		err = c.conn.Within(0)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	go c.read()
	return c, nil
}

// Close ends the connection. Whatever is held stays held for as long as it was to be.
func (c *Client) Close() { c.conn.Close() }

// Events are what happens unasked, in its order; closed when the connection has ended.
func (c *Client) Events() <-chan Event { return c.events }

// Err is why the connection has ended; nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) read() {
	err := c.receive()
	c.conn.Close()
	c.mu.Lock()
	c.err = fmt.Errorf("%w: %w", ErrDisconnected, err)
	for _, waiting := range c.asked {
		close(waiting)
	}
	c.asked = nil
	c.mu.Unlock()
	close(c.events)
}

func (c *Client) receive() error {
	for {
		var m message
		if err := c.conn.Receive(&m); err != nil {
			return err
		}
		switch {
		case m.Answer != nil:
			c.mu.Lock()
			if waiting := c.asked[m.Answer.ID]; waiting != nil {
				delete(c.asked, m.Answer.ID)
				waiting <- *m.Answer
			}
			c.mu.Unlock()
		case m.Event != nil:
			select {
			case c.events <- *m.Event:
			default:
				return errors.New("nobody has taken its events")
			}
		}
	}
}

// ask sends a request, and waits for the answer.
func (c *Client) ask(ctx context.Context, r request) (answer, error) {
	waiting := make(chan answer, 1)
	c.mu.Lock()
	if c.asked == nil {
		defer c.mu.Unlock()
		return answer{}, c.err
	}
	c.last++
	r.ID = c.last
	c.asked[r.ID] = waiting
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.asked, r.ID)
	}()
	if err := c.conn.Send(r); err != nil {
		c.conn.Close() // what is half written cannot be gone on with
		return answer{}, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	select {
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case a, ok := <-waiting:
		switch {
		case !ok:
			return answer{}, c.Err()
		case a.Refused:
			return a, fmt.Errorf("%w: %s", ErrRefused, a.Error)
		case a.Error != "":
			return a, errors.New(a.Error)
		}
		return a, nil
	}
}

var errEmpty = errors.New("sluice-netsetup hold answered without saying what was asked")

// Status is what the server knows.
func (c *Client) Status(ctx context.Context) (Status, error) {
	a, err := c.ask(ctx, request{Op: OpStatus})
	switch {
	case err != nil:
		return Status{}, err
	case a.Status == nil:
		return Status{}, errEmpty
	}
	return *a.Status, nil
}

// Check looks whether the interfaces of a group are up and their gateways answer, and with
// duplicate whether nobody else answers for an address; in 0.4 s in all, which it takes with
// duplicate in any case.
func (c *Client) Check(ctx context.Context, group string, duplicate bool) (Checked, error) {
	a, err := c.ask(ctx, request{Op: OpCheck, Group: group, Duplicate: duplicate})
	switch {
	case err != nil:
		return Checked{}, err
	case a.Checked == nil:
		return Checked{}, errEmpty
	}
	return *a.Checked, nil
}

// Prepare begins an attempt, which can be committed for as long as p.
func (c *Client) Prepare(ctx context.Context, group string, n Nonce, p time.Duration) error {
	_, err := c.ask(ctx, request{Op: OpPrepare, Group: group, Nonce: &n, Time: p.Milliseconds()})
	return err
}

// Commit ends an attempt: the addresses are brought, and held for v, and announced as long
// as they are held. Renewing says that they are held; if they are not any more, or the
// attempt is not known any more, the error is [ErrRefused].
func (c *Client) Commit(ctx context.Context, group string, n Nonce, v time.Duration, renewing bool) error {
	_, err := c.ask(ctx, request{Op: OpCommit, Group: group, Nonce: &n, Time: v.Milliseconds(), Renewing: renewing})
	return err
}

// Probe reports whether replies come back to the held addresses. It answers with the first
// reply, or after 3 s.
func (c *Client) Probe(ctx context.Context, group string) (bool, error) {
	a, err := c.ask(ctx, request{Op: OpProbe, Group: group})
	return a.Replies, err
}

// LetGo fences the addresses, ends all attempts, and takes the addresses away. They do
// not speak any more when it has returned without an error.
func (c *Client) LetGo(ctx context.Context, group string) error {
	_, err := c.ask(ctx, request{Op: OpLetGo, Group: group})
	return err
}

// Ended says that the proxy has ended, and nothing is held any more that is to be: the
// server ends by SIGTERM, or has ended soon if that has come already.
func (c *Client) Ended(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: OpEnded})
	return err
}
