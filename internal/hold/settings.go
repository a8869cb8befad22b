package hold

import (
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/internal/fencetime"
)

// Settings are what --hold-* says. They may differ between replicas, as they do in a rolling
// update, and may change while a replica holds: each attempt goes by those it began with.
//
// Source: failover.md, "Never two holders", 3 and 5 to 8.
type Settings struct {
	Pending time.Duration // P: how long after prepare a commit may come
	Held    time.Duration // V: how long after a commit the kernel lets the address out
	Lease   time.Duration // L: how long a challenger waits after its last sight of a change
	Renew   time.Duration // from the beginning of one attempt to the next

	GatewayMisses int           // checks in a row without an answer of the gateway: with that many no renewal
	Retry         time.Duration // after somebody else answered for the address, or nobody answered it
	ProxyGone     time.Duration // a proxy that has been gone for so long lets go

	SuccessorWait time.Duration // on SIGTERM: how long a successor is waited for at most
	DrainTimeout  time.Duration // then: how long the proxy may take to drain

	Keep  bool          // --hold-on-api-loss keep; zero: release
	Grace time.Duration // with Keep: how long after the last acknowledgement
}

// Defaults are the settings when nothing is set.
var Defaults = Settings{
	Pending:       750 * time.Millisecond,
	Held:          2 * time.Second,
	Lease:         3250 * time.Millisecond,
	Renew:         500 * time.Millisecond,
	GatewayMisses: 3,
	Retry:         time.Second,
	ProxyGone:     5 * time.Second,
	SuccessorWait: 15 * time.Second,
	DrainTimeout:  time.Second,
	Grace:         time.Hour,
}

// MaxBound is the longest P + V that Check passes. An announcement of more is not one of
// ours, and is taken as this: nobody blocks an address for ever by what he writes.
const MaxBound = time.Minute

// bound is how long after its update was sent an attempt lets the address out at most.
func (s Settings) bound() time.Duration { return s.Pending + s.Held }

// Wait is how long somebody else waits for what is over after d, with clock rates apart by
// 10 %: the least L for a P + V of d.
func Wait(d time.Duration) time.Duration { return d + (15*d+99)/100 }

// Wrong is something that is wrong with settings.
type Wrong struct {
	Of  []string // the flags that it is about, the one that is to be changed as a rule first
	Msg string
}

// Error is Msg.
func (w *Wrong) Error() string { return w.Msg }

// Check reports all that is wrong with the settings. A driver must not use others: L shorter
// than 1.15 (P + V) would have two holders.
func (s Settings) Check() (all []*Wrong) {
	wrong := func(of []string, format string, args ...any) {
		all = append(all, &Wrong{of, fmt.Sprintf(format, args...)})
	}
	if err := fencetime.Check("pending", s.Pending); err != nil {
		wrong([]string{"hold-pending"}, "%v", err)
	}
	if err := fencetime.Check("held", s.Held); err != nil {
		wrong([]string{"hold-held"}, "%v", err)
	}
	if s.bound() > MaxBound {
		wrong([]string{"hold-held", "hold-pending"}, "pending %v and held %v are more than %v together", s.Pending, s.Held, MaxBound)
	}
	if need := Wait(s.bound()); s.Lease < need {
		wrong([]string{"hold-lease", "hold-held", "hold-pending"}, "lease %v is less than 1.15 times pending %v and held %v: at least %v", s.Lease, s.Pending, s.Held, need)
	}
	if s.Renew <= 0 {
		wrong([]string{"hold-renew"}, "renew %v: more than 0", s.Renew)
	} else if s.Renew+s.Pending >= s.Held {
		wrong([]string{"hold-renew", "hold-held", "hold-pending"}, "renew %v: held %v must be more than that and pending %v together, or the address is fenced between renewals", s.Renew, s.Held, s.Pending)
	}
	if s.GatewayMisses < 1 {
		wrong([]string{"hold-gateway-misses"}, "gateway misses %d: at least 1", s.GatewayMisses)
	}
	if s.Retry <= 0 {
		wrong([]string{"hold-retry"}, "retry %v: more than 0", s.Retry)
	}
	notNegative := func(flag string, d time.Duration) {
		if d < 0 {
			wrong([]string{flag}, "%v: no time is negative", d)
		}
	}
	notNegative("hold-proxy-gone", s.ProxyGone)
	notNegative("hold-successor-wait", s.SuccessorWait)
	notNegative("drain-timeout", s.DrainTimeout)
	notNegative("hold-api-grace", s.Grace)
	return all
}
