package tcp

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// address is one address of a destination.
type address struct {
	d      *destination
	addr   netip.Addr
	open   atomic.Int64       // connections, those being made included
	down   atomic.Bool        // left out
	kick   chan struct{}      // it has just failed
	cancel context.CancelFunc // ends checkHealth; nil when it has left DNS. Under d.mu
}

func (a *address) state() string {
	if a.down.Load() {
		return "down"
	}
	return "up"
}

// start checks the address until cancel is called. Under d.mu.
func (a *address) start() {
	ctx, cancel := context.WithCancel(a.d.ctx)
	a.cancel = cancel
	a.down.Store(false)
	select {
	case <-a.kick:
	default:
	}
	a.d.srv.wg.Go(func() { a.checkHealth(ctx) })
}

// failed leaves the address out until checkHealth finds that it answers: a client could
// not connect to it.
func (a *address) failed(err error) {
	if a.down.Swap(true) {
		return
	}
	a.d.srv.Log.Warn("address left out", "listener", a.d.port.label, "destination", a.d.label, "address", a.addr, "error", err)
	select {
	case a.kick <- struct{}{}:
	default:
	}
	a.d.report()
}

// answers takes the address in use again.
func (a *address) answers() {
	if !a.down.Swap(false) {
		return
	}
	a.d.srv.Log.Info("address answers again", "listener", a.d.port.label, "destination", a.d.label, "address", a.addr)
	a.d.report()
}

// checkHealth tries the address: every check.Interval if there is one, else only while
// it is left out.
func (a *address) checkHealth(ctx context.Context) {
	c := a.d.check
	active := c.Interval > 0
	good, bad := 0, max(c.Fall-1, 0) // the first check decides
	retry := a.d.srv.pace.firstRetry
	wait := time.Duration(0)
	for {
		var timer <-chan time.Time
		switch {
		case active:
			timer = time.After(wait)
			wait = c.Interval
		case a.down.Load():
			timer = time.After(retry)
			retry = min(2*retry, a.d.srv.pace.lastRetry)
		default:
			retry = a.d.srv.pace.firstRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
			good = 0
			continue
		case <-timer:
		}
		err := a.probe(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			good, bad = good+1, 0
			if !active || good >= c.Rise {
				a.answers()
			}
		case classOf(err) != metrics.TCPLocal:
			good, bad = 0, bad+1
			if bad >= c.Fall {
				a.failed(err)
			}
		}
	}
}

// probe connects and closes.
func (a *address) probe(ctx context.Context) error {
	s := a.d.srv
	if !s.Budget.Take(1) {
		return &outbound.Error{Kind: outbound.NoDescriptors, Err: syscall.EMFILE}
	}
	defer s.Budget.Give(1)
	begin := time.Now()
	c, err := s.dial(ctx, netip.Addr{}, a)
	if ctx.Err() == nil {
		a.d.metrics.Checked(err == nil, time.Since(begin))
	}
	if err == nil {
		c.Close()
	}
	return err
}

// classOf is the class of a failed connection. What is this host's own trouble
// says nothing about the address.
func classOf(err error) metrics.TCPConnectError {
	e, ok := errors.AsType[*outbound.Error](err)
	switch {
	case !ok:
		return metrics.TCPOther
	case e.Kind.ByAdmission():
		return metrics.TCPDenied
	case e.Kind == outbound.NoDescriptors, errors.Is(err, outbound.ErrNotHeld), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, context.Canceled):
		return metrics.TCPLocal
	case e.Kind == outbound.Refused:
		return metrics.TCPRefused
	case e.Kind == outbound.ConnectTimeout:
		return metrics.TCPTimeout
	case e.Kind == outbound.Unroutable:
		return metrics.TCPUnroutable
	}
	return metrics.TCPOther
}
