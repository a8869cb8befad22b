package main

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// asker is who a question is asked for.
type asker struct {
	addr  netip.Addr
	pod   policy.Pod
	shown *auth.Identity
}

// parseAsker reads what --from says; "" is a client of no tenant.
func parseAsker(from string, users *auth.Users) (who asker, err error) {
	if from == "" {
		return who, nil
	}
	if addr, err := netip.ParseAddr(from); err == nil && addr.Zone() == "" {
		who.addr = addr.Unmap()
		return who, nil
	}
	namespace, account, isAccount := strings.Cut(from, "/")
	switch {
	case strings.Contains(from, "://"):
		uri, err := url.Parse(from)
		if err != nil {
			return who, fmt.Errorf("--from: %w", err)
		}
		who.shown = auth.NewCertificate(&x509.Certificate{URIs: []*url.URL{uri}})
	case isAccount:
		who.pod = policy.Pod{Namespace: namespace, ServiceAccount: account}
		who.shown = auth.NewServiceAccount(namespace, account, "")
	case users.Has(from):
		who.shown = auth.NewUser(from)
	default:
		return who, fmt.Errorf("--from: %q is no address of a client, no NAMESPACE/SERVICEACCOUNT, no URI of a certificate, and no user of the usersFile", from)
	}
	return who, nil
}

// whose is the rules that a question is asked of.
type whose struct {
	policy *acl.Policy
	tenant string // whose they are, "" where there are no tenants
	source string // that connections leave from, "" where that is not known
	// parents are by whom requests go; nil: directly, or that is not known.
	parents *policy.Parents
	// inspect is what requests are asked; nil: nothing.
	inspect *policy.Inspect
}

// decide is what the rules decide, at each of addrs.
func (w *whose) decide(t acl.Target, addrs []netip.Addr) answer {
	d := w.policy.DecideHost(t)
	if w.parents.ByName(t) != nil { // whatever its addresses are
		d, addrs = w.policy.DecideName(t), nil
	}
	ans := answer{Target: t.String(), Tenant: w.tenant, Verdict: d.Verdict.String(), Reason: d.Reason(), File: d.Source, Line: d.Line}
	if t.Host.IsAddr() || d.Verdict == acl.Deny {
		return ans
	}
	best := -1
	for i, addr := range addrs {
		d := w.policy.DecideAddr(t, addr)
		ans.Addresses = append(ans.Addresses, addrAnswer{addr.String(), d.Verdict.String(), d.Reason(), d.Source, d.Line})
		if best < 0 || d.Verdict == acl.Allow && ans.Addresses[best].Verdict != acl.Allow.String() {
			best = i
		}
	}
	if best >= 0 {
		b := ans.Addresses[best]
		ans.Verdict, ans.Reason, ans.File, ans.Line = b.Verdict, b.Reason, b.File, b.Line
	}
	return ans
}
