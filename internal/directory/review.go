package directory

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// maxAsked bounds the questions on their way: as many as a server works on at once.
const maxAsked = maxReviews

// Review asks whom a token was given to. The error is [ErrRefused], or [ErrUnavailable]
// when that cannot be told now; ctx, and in any case a few seconds, bound the wait. Nothing
// is remembered: that is the caller's business.
func (c *Client) Review(ctx context.Context, token string) (Identity, error) {
	if !looksLikeToken(token) {
		return Identity{}, fmt.Errorf("%w (it does not look like one)", ErrRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTime+time.Second)
	defer cancel()
	id, w, answer, err := c.ask()
	if err != nil {
		return Identity{}, err
	}
	defer c.forget(id)
	if err := w.Send(message{Review: &question{id, token}}); err != nil {
		w.Close() // what is half written cannot be gone on with
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	select {
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	case v := <-answer:
		return v.identity()
	}
}

// ask registers a question. Its answer comes by the channel, which has room for it.
func (c *Client) ask() (uint64, *peer.Conn, <-chan verdict, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wire == nil {
		return 0, nil, nil, fmt.Errorf("%w: the directory is away: %w", ErrUnavailable, c.err)
	}
	if len(c.asked) >= maxAsked {
		return 0, nil, nil, fmt.Errorf("%w: too many tokens are being verified", ErrUnavailable)
	}
	c.lastID++
	answer := make(chan verdict, 1)
	c.asked[c.lastID] = answer
	return c.lastID, c.wire, answer, nil
}

// looksLikeToken reports whether the API server need be asked: a token is of the characters
// of RFC 6750, and not longer than a line of the protocol can hold.
func looksLikeToken(token string) bool {
	if token == "" || len(token) > MaxToken {
		return false
	}
	for _, b := range []byte(token) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case !strings.ContainsRune("-._~+/=", rune(b)):
			return false
		}
	}
	return true
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, id)
}

func (c *Client) judged(v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer := c.asked[v.ID]; answer != nil {
		delete(c.asked, v.ID)
		answer <- v
	}
}

func (v verdict) identity() (Identity, error) {
	switch {
	case v.State == stateRefused:
		return Identity{}, fmt.Errorf("%w (%s)", ErrRefused, v.Why)
	case v.State != stateValid || v.Namespace == "" || v.Account == "":
		return Identity{}, fmt.Errorf("%w (%s)", ErrUnavailable, v.Why)
	}
	id := Identity{Namespace: v.Namespace, ServiceAccount: v.Account, Pod: v.Pod, PodUID: v.PodUID}
	if v.Expires > 0 {
		id.Expires = time.Unix(v.Expires, 0)
	}
	return id, nil
}
