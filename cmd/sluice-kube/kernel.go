package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/holding"
)

// kernelDeadline is how long sluice-netsetup hold has for what is done at once; a check takes
// 0.4 s and a probe up to 3 s more.
const kernelDeadline = time.Second

// sayAgain is how often it is said that sluice-netsetup hold cannot be reached, while that is so.
const sayAgain = 30 * time.Second

// kernel is sluice-netsetup hold, as far as it is there: what cannot be asked for, or is not
// answered, counts as refused.
type kernel struct {
	socket  string
	log     *slog.Logger
	heard   func(holding.Event) // is told of events
	reached func(bool)          // is told whether it is there, when that changes
	again   time.Duration       // between two words of not being there

	mu     sync.Mutex
	client *holding.Client // nil: there is no connection
	wrong  error           // why it is of no use; nil: nothing is known to be
	said   time.Time       // when that was said
}

// keep keeps a connection until ctx ends.
func (k *kernel) keep(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := k.dial(ctx)
		if err != nil {
			k.away(err)
			sleep(ctx, apiDeadline/2)
			continue
		}
		k.set(c)
		stop := context.AfterFunc(ctx, c.Close)
		for e := range c.Events() {
			k.heard(e)
		}
		stop()
		k.set(nil)
	}
}

func (k *kernel) dial(ctx context.Context) (*holding.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*kernelDeadline)
	defer cancel()
	return holding.Dial(ctx, k.socket, version)
}

func (k *kernel) set(c *holding.Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reached(c != nil)
	if c == nil {
		k.wrong = k.client.Err()
	} else {
		k.wrong, k.said = nil, time.Time{}
	}
	k.client = c
}

// away says now and then that nothing can be held, and why.
func (k *kernel) away(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrong = err
	if !k.said.IsZero() && time.Since(k.said) < k.again {
		return
	}
	k.said = time.Now()
	k.log.Warn("sluice-netsetup hold cannot be reached: nothing can be held", "socket", k.socket, "error", err)
}

// details are a line, for /readyz?verbose.
func (k *kernel) details() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wrong != nil {
		return []string{fmt.Sprintf("sluice-netsetup hold at %s: not reached, so nothing can be held: %v", k.socket, k.wrong)}
	}
	if k.client == nil {
		return []string{fmt.Sprintf("sluice-netsetup hold at %s: not reached yet", k.socket)}
	}
	return []string{fmt.Sprintf("sluice-netsetup hold at %s: reached", k.socket)}
}

// errAway is the error of what could not be asked for, since there is no connection.
var errAway = errors.New("there is no connection")

// ask asks within the limit.
func (k *kernel) ask(ctx context.Context, limit time.Duration, what func(context.Context, *holding.Client) error) error {
	k.mu.Lock()
	c := k.client
	k.mu.Unlock()
	if c == nil {
		return errAway
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return what(ctx, c)
}

// with asks within the limit, and reports whether that was answered without an error.
func (k *kernel) with(ctx context.Context, limit time.Duration, what string, f func(context.Context, *holding.Client) error) bool {
	err := k.ask(ctx, limit, f)
	if err != nil && !errors.Is(err, errAway) {
		k.log.Warn("sluice-netsetup hold could not "+what, "error", err)
	}
	return err == nil
}

// status waits until the groups are known.
func (k *kernel) status(ctx context.Context) (s holding.Status, ok bool) {
	for {
		err := k.ask(ctx, kernelDeadline, func(ctx context.Context, c *holding.Client) (err error) {
			s, err = c.Status(ctx)
			return err
		})
		if err == nil {
			return s, true
		}
		if !errors.Is(err, errAway) {
			k.away(fmt.Errorf("it does not say what it has: %w", err))
		}
		if !sleep(ctx, tickEvery) {
			return s, false
		}
	}
}

func (k *kernel) check(ctx context.Context, group string, a hold.Check) hold.Checked {
	done := hold.Checked{Nonce: a.Nonce}
	k.with(ctx, 2*kernelDeadline, "look whether the address can be held", func(ctx context.Context, c *holding.Client) error {
		found, err := c.Check(ctx, group, a.Duplicate)
		if err == nil {
			done.Up, done.Gateway, done.Alone, done.By = found.Up, found.Gateway, found.Alone, found.By
			if found.Why != "" {
				k.log.Warn("the address cannot be held for now", "group", group, "because", found.Why)
			}
		}
		return err
	})
	return done
}

func (k *kernel) prepare(ctx context.Context, group string, a hold.Prepare) hold.Prepared {
	return hold.Prepared{Nonce: a.Nonce, OK: k.with(ctx, a.For, "begin an attempt", func(ctx context.Context, c *holding.Client) error {
		return c.Prepare(ctx, group, nonce(a.Nonce), a.For)
	})}
}

func (k *kernel) commit(ctx context.Context, group string, a hold.Commit) hold.Committed {
	return hold.Committed{Nonce: a.Nonce, OK: k.with(ctx, kernelDeadline, "hold the address", func(ctx context.Context, c *holding.Client) error {
		return c.Commit(ctx, group, nonce(a.Nonce), a.For, a.Renewing)
	})}
}

func (k *kernel) probe(ctx context.Context, group string, a hold.Probe) hold.Probed {
	done := hold.Probed{Nonce: a.Nonce, OK: true} // what is not known is no reason to let go
	k.with(ctx, 5*kernelDeadline, "see whether replies come back", func(ctx context.Context, c *holding.Client) error {
		replies, err := c.Probe(ctx, group)
		if err == nil {
			done.OK = replies
		}
		return err
	})
	return done
}

func (k *kernel) letGo(ctx context.Context, group string, a hold.LetGo) hold.LetGone {
	return hold.LetGone{Nonce: a.Nonce, OK: k.with(ctx, 2*kernelDeadline, "let the address go", func(ctx context.Context, c *holding.Client) error {
		return c.LetGo(ctx, group)
	})}
}

// ended tells it that the proxy has ended: SIGTERM counts there from now on.
func (k *kernel) ended(ctx context.Context) {
	k.with(ctx, kernelDeadline, "take the proxy's end", func(ctx context.Context, c *holding.Client) error { return c.Ended(ctx) })
}

// nonce is n as the kernel has it.
func nonce(n hold.Nonce) (k holding.Nonce) {
	binary.BigEndian.PutUint64(k[:8], n.Process)
	binary.BigEndian.PutUint64(k[8:], n.Count)
	return k
}
