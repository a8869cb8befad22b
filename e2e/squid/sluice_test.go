//go:build linux

package squid

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// standardGuard is the guard of a host with ownAddrs.
var standardGuard = acl.Guard{Own: ownAddrs}

// A decider answers the question to a text of rules.
type decider func(text string, w *world, q question) (answer, error)

// decideByLibrary asks package acl, as its documentation says.
func decideByLibrary(text string, w *world, q question) (answer, error) {
	p, t, err := parsed(text, q)
	if err != nil {
		return answer{}, err
	}
	return decide(p.WithGuard(standardGuard), w, t), nil
}

func parsed(text string, q question) (*acl.Policy, acl.Target, error) {
	p, err := acl.Parse(text)
	if err != nil {
		return nil, acl.Target{}, err
	}
	// A host that is refused leaves the zero Target.
	t, _ := acl.ParseTargetDefault(q.host, 80)
	return p, t, nil
}

func decide(p *acl.Policy, w *world, t acl.Target) answer {
	if t == (acl.Target{}) {
		return answer{verdict: refused}
	}
	d := p.DecideHost(t)
	if d.Verdict == acl.Deny {
		return answer{verdict: denied}
	}
	if t.Host.IsAddr() {
		return newAnswer([]netip.Addr{t.Host.Addr()})
	}
	addrs := w.lookup(t.Host.Name())
	if addrs == nil {
		return answer{verdict: unresolved}
	}
	var passed []netip.Addr
	for _, a := range addrs {
		if p.DecideAddr(t, a).Verdict == acl.Allow {
			passed = append(passed, a)
		}
	}
	return newAnswer(passed)
}

// decideByGate asks the proxy's way out. Every dial is refused, so that the gate
// tries all addresses that it would ever connect to.
func decideByGate(t testing.TB, text string, w *world, q question) answer {
	t.Helper()
	p, target, err := parsed(text, q)
	require.NoError(t, err)
	if target == (acl.Target{}) {
		return answer{verdict: refused} // the proxy never asks its gate
	}

	lookup := func(_ context.Context, name string) ([]netip.Addr, error) {
		if addrs := w.lookup(name); addrs != nil {
			return slices.Clone(addrs), nil
		}
		return nil, &resolve.Error{Name: name, Kind: resolve.NotFound, Code: "NXDOMAIN"}
	}
	var mu sync.Mutex
	var dialled []netip.Addr
	dial := func(_ context.Context, _ netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, dst.Addr())
		return nil, syscall.ECONNREFUSED
	}
	pool := outbound.NewPool(nil, time.Minute)
	gen := policy.New(policy.Tenant{Rules: p.WithGuard(standardGuard)})
	_, _, err = outbound.NewGate(lookup, dial, pool).Blocking().Open(t.Context(), gen, &outbound.Request{Target: target})
	var e *outbound.Error
	require.ErrorAs(t, err, &e, "no dial succeeds")
	mu.Lock()
	defer mu.Unlock()
	switch e.Kind {
	case outbound.Denied:
		require.Empty(t, dialled)
		return answer{verdict: denied}
	case outbound.DNSFailed:
		require.Empty(t, dialled)
		return answer{verdict: unresolved}
	case outbound.Refused:
		require.NotEmpty(t, dialled)
		return newAnswer(dialled)
	}
	require.Fail(t, fmt.Sprintf("the gate fails with %v", err))
	return answer{}
}
