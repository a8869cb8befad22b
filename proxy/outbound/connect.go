package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// answerOfParent bounds what a parent answers to CONNECT, interim answers too.
var answerOfParent = http1.Limits{MaxHead: 16 << 10, MaxFields: 100}

// openTunnel asks the parent of c for a tunnel (RFC 9110 section 9.3.6).
func (g *Gate) openTunnel(ctx context.Context, c *Conn, r *Route) (policy.Outcome, error) {
	done := during(ctx, c.TCP)
	_, err := c.TCP.Blocking().Write(g.appendConnect(nil, c, r))
	var resp http1.Response
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) { // it may have answered first
		err = readAnswer(c.TCP.Blocking(), &resp)
	}
	if ended := done(); ended != nil && err == nil {
		err = ended
	}
	var bad *http1.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return policy.Silent, &Error{Kind: ConnectTimeout, Err: errors.New("no answer to CONNECT in time")}
	case errors.As(err, &bad):
		return policy.Broken, &Error{Kind: ParentBroken, Err: fmt.Errorf("its answer to CONNECT: %s", bad.Msg)}
	case err != nil:
		return policy.Broken, &Error{Kind: ParentUnavailable, Err: errors.New("it has closed the connection without an answer to CONNECT")}
	}
	return judgeAnswer(&resp, c.parent)
}

// judgeAnswer says what an answer to CONNECT means.
func judgeAnswer(resp *http1.Response, p *policy.Parent) (policy.Outcome, error) {
	said := fmt.Sprintf("%d %.200s", resp.Status, resp.Reason)
	switch s := resp.Status; {
	case s < 300: // a body that its head speaks of is none
		return policy.Opened, nil
	case s == 407:
		return policy.LoginRefused, loginRefused(p)
	case s == 403:
		return policy.Forbidden, &Error{Kind: ParentForbids, Err: fmt.Errorf("it refuses: %s", said)}
	case s >= 500:
		return policy.Unavailable, &Error{Kind: ParentUnavailable, Err: fmt.Errorf("it does not get there: %s", said)}
	default:
		return policy.Forbidden, &Error{Kind: ParentBroken, Err: fmt.Errorf("it answers CONNECT with %s", said)}
	}
}

// loginRefused is the error of a 407 of p.
func loginRefused(p *policy.Parent) *Error {
	if len(p.AppendLogin(nil)) == 0 {
		return &Error{Kind: ParentLogin, Err: errors.New("it wants a credential (407), and the gateway has none for it")}
	}
	return &Error{Kind: ParentLogin, Err: errors.New("it does not take the gateway's credential (407)")}
}

// RefusesLogin is the error of a request that the parent of an absolute connection has answered with
// 407: that is about the gateway, and not for its client.
func (c *Conn) RefusesLogin() error {
	c.parent.Health.Ended(policy.LoginRefused)
	return ofParent(c.parent, loginRefused(c.parent))
}

// appendConnect appends the head of a CONNECT to what c is to lead to. It names this proxy and those
// that the request came through, so that a loop is found by whom it comes back to.
func (g *Gate) appendConnect(b []byte, c *Conn, r *Route) []byte {
	at := c.Dst.String()
	if !c.Dst.Addr().IsValid() {
		at = r.target.String()
	}
	b = append(append(append(b, "CONNECT "...), at...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, at...), "\r\n"...)
	b = append(b, r.came...)
	if g.Name != "" {
		b = append(append(append(b, "Via: 1.1 "...), g.Name...), "\r\n"...)
	}
	return append(c.parent.AppendLogin(b), "\r\n"...)
}

// readAnswer reads the head of the final answer, and not a byte behind it: that is the server's.
func readAnswer(c sock.Blocking, resp *http1.Response) error {
	b, have, left := make([]byte, 2<<10), 0, answerOfParent.MaxHead
	for {
		if have == len(b) {
			b = append(b, make([]byte, len(b))...)
		}
		n, err := look(c, b[have:])
		if err != nil {
			return err
		}
		end, err := resp.ParseToConnect(b[:have+n], http1.Limits{MaxHead: left, MaxFields: answerOfParent.MaxFields})
		switch {
		case errors.Is(err, http1.ErrIncomplete):
			end = have + n
		case err != nil:
			return err
		}
		if err := take(c, b[have:end]); err != nil {
			return err
		}
		have = end
		switch {
		case err != nil:
		case resp.Status == 101:
			return &http1.Error{Status: 502, Msg: "it switches protocols unasked"}
		case resp.Status >= 200:
			return nil
		default:
			left -= end
			have = 0
			resp.Reset()
		}
	}
}

// look waits for something to read, and leaves it there.
func look(c sock.Blocking, b []byte) (n int, err error) {
	wait := c.ReadWhenReady(func(fd uintptr) bool {
		n, err = sock.TryPeek(int(fd), b)
		return err != unix.EAGAIN
	})
	switch {
	case wait != nil:
		return 0, wait
	case err == nil && n == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// take reads what look has found.
func take(c sock.Blocking, b []byte) error {
	_, err := io.ReadFull(c, b)
	return err
}
