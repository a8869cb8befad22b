package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

var proxyCommand = modeCommand[*config.Proxy]{
	use:   "proxy",
	short: "Run the HTTP/HTTPS forward proxy",
	long: `Run the forward proxy. Clients use it by http_proxy and https_proxy; what they
may reach is what the rules allow, from the address in EGRESS_SOURCE.

A flag wins over the environment, the environment over the file (--config).`,
	settings:  config.ProxySettings(),
	load:      config.LoadProxy,
	unguarded: "the guard is off: loopback, link-local and this host's own addresses can be reached if a rule allows them",
	new:       func() mode[*config.Proxy] { return &proxyMode{} },
}

// proxyMode is the forward proxy.
type proxyMode struct {
	server  *proxy.Server
	proxies []*sock.Listener
	secure  []*sock.Listener // for clients by TLS
	socks   []*sock.Listener // for clients by SOCKS 5
	usages  *tenantUsages
	shadows shadows
	parents parents
	learns  atomic.Bool // what no rule decides is allowed

	verifier *auth.Verifier
	pods     *pods // nil: there is no directory
}

func (m *proxyMode) open(c *config.Proxy, p *parts) error {
	m.pods = openDirectory(c, p)
	m.server, m.usages = proxy.New(serverOptions(c, p, m.pods)), new(tenantUsages)
	m.verifier = p.gate.Verifier
	metrics.NewTenants(p.registry, m.usages.each)
	metrics.NewShadow(p.registry, m.shadows.each)
	metrics.NewLearning(p.registry, m.learns.Load)
	metrics.NewParents(p.registry, m.parents.each)
	p.gate.Self = m.listensAt
	p.gate.Idle = c.IdleTimeout
	p.gate.Panics = contain.Log(p.log, p.metrics.Panics.Inc)
	var err error
	if m.proxies, err = listenAll(p.listen, c.Written.Of("listen"), c.Listen); err != nil {
		return err
	}
	if m.secure, err = listenAll(p.listen, c.Written.Of("listen-tls"), c.ListenTLS); err != nil {
		return err
	}
	m.socks, err = listenAll(p.listen, c.Written.Of("listen-socks"), c.ListenSOCKS)
	return err
}

// listenAll listens at the addresses of a setting. With an error it returns those that are open.
func listenAll(listen func(addr string) (*sock.Listener, error), setting string, addrs []string) (all []*sock.Listener, err error) {
	for _, addr := range addrs {
		l, err := listen(addr)
		if err != nil {
			return all, listenError(setting, addr, err)
		}
		all = append(all, l)
	}
	return all, nil
}

func serverOptions(c *config.Proxy, p *parts, pods *pods) proxy.Options {
	p.gate.Known = p.resolve.Known
	verify := auth.Options{Panics: contain.Log(p.log, p.metrics.Panics.Inc)}
	if pods != nil {
		p.gate.Pods, verify.Reviewer = pods, pods
	}
	p.gate.Verifier = auth.New(verify)
	o := proxy.Options{
		Gate:             p.gate,
		Metrics:          p.metrics,
		Log:              p.log,
		Budget:           p.budget,
		ForwardedFor:     c.ForwardedFor,
		LogQuery:         c.LogQuery,
		Head:             http1.Limits{MaxHead: c.MaxHead, MaxFields: c.MaxFields},
		AnswerHead:       http1.Limits{MaxHead: c.MaxAnswerHead, MaxFields: c.MaxAnswerFields},
		MaxConns:         c.MaxConns,
		ProxyFrom:        c.ProxyProtocolFrom,
		HeadTimeout:      c.HeadTimeout,
		ConnectTimeout:   c.ConnectTimeout,
		IdleTimeout:      c.IdleTimeout,
		KeepAliveTimeout: c.KeepAliveTimeout,
		HalfCloseTimeout: c.HalfCloseTimeout,
		MinRate:          c.MinRate,
	}
	if p.access != nil {
		o.Access = accesslog.New(p.access, accesslog.Formats[c.AccessLogFormat])
	}
	if len(c.UpstreamCA) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM(c.UpstreamCA)
		o.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return o
}

func (m *proxyMode) tenants(c *config.Proxy, s *policy.Set, at time.Time) {
	s.Rest.Limits = policy.Limits{ConnsPerClient: c.MaxConnsPerClient, HandshakesPerClient: c.MaxHandshakesPerClient}
	s.Rest.HideRules, s.Rest.Contact, s.Rest.Inspect = c.HideRules, c.Contact, c.Inspect
	s.Rest.Parents = c.Parents
	s.Authentication = policy.Authentication{Mode: c.Authenticate, Users: c.Users}
	s.Check = c.TunnelCheck
	m.usages.next = nil
	s.Rest.Shadow = policy.NewShadow(c.InForce(c.Shadow, at).WithGuard(acl.Guard{Mode: c.Guard, Own: s.Own}))
	defer m.shadows.share(s)
	defer m.parents.share(s)
	if c.Learned != nil {
		s.Rest.Rules = c.InForce(c.Learned, at).WithGuard(acl.Guard{Mode: c.Guard, Own: s.Own})
	}
	if len(c.Tenants) == 0 {
		return
	}
	s.Rest.Name, s.Rest.Unclaimed = policy.DefaultName, c.Policy == nil
	for i, t := range c.Tenants {
		to := &s.Tenants[i]
		to.Clients, to.Shown, to.Pods = t.Clients, t.Shown, t.Pods
		to.Rules = c.InForce(cmp.Or(t.Learned, t.Policy), at).WithGuard(acl.Guard{Mode: t.Guard, Own: s.Own})
		to.Shadow = policy.NewShadow(c.InForce(t.Shadow, at).WithGuard(acl.Guard{Mode: t.Guard, Own: s.Own}))
		to.HideRules, to.Contact, to.Inspect = t.HideRules, t.Contact, t.Inspect
		to.Parents = t.Parents
		to.Limits = policy.Limits{ConnsPerClient: c.MaxConnsPerClient, HandshakesPerClient: c.MaxHandshakesPerClient, Connections: t.Limits.Connections,
			RequestsPerSecond: t.Limits.RequestsPerSecond, Burst: t.Limits.Burst}
	}
	m.usages.share(s)
}

// apply refuses rules that have lost the line which says that they are whole.
func (m *proxyMode) apply(before, now *config.Proxy, gen *policy.Generation) error {
	if before != nil {
		if source, lost := lostEnd(before, now); lost {
			return fmt.Errorf(`%s: the rules in force end in the line "#@ end", and these do not: they may be cut off; add the line, or restart to do without it`, source)
		}
	}
	m.renew(gen)
	m.learns.Store(now.Learn)
	if c := now.Keys; c != nil { // behind the rules: certificates of all who are there may be judged again
		m.server.SetKeys(terminate.NewKeys(c.Certificate, c.ClientCAs))
	}
	return nil
}

// lostEnd reports whether some rules are not known to be whole, and those before were.
func lostEnd(before, now *config.Proxy) (source string, lost bool) {
	if source, lost = now.Policy.LostEnd(before.Policy); lost {
		return cmp.Or(source, now.Origin), true
	}
	was := map[string]*acl.Policy{}
	for _, t := range before.Tenants {
		was[t.Name] = t.Policy
	}
	for _, t := range now.Tenants {
		if source, lost = t.Policy.LostEnd(was[t.Name]); lost {
			return cmp.Or(source, t.Rules.Source) + ", tenant " + t.Name, true
		}
	}
	return "", false
}

func (m *proxyMode) renew(gen *policy.Generation) {
	m.server.SetGeneration(gen)
	m.usages.commit()
	m.shadows.commit()
	m.parents.commit()
}

func (m *proxyMode) revoke() { m.server.Revoke() }

func (m *proxyMode) cut() {
	m.server.Cut((*door.Open).Connected)
	m.server.Gate.Pool.Evict(math.MaxInt)
}

func (m *proxyMode) serve(failed func(error)) {
	each := func(ls []*sock.Listener, serve func(*sock.Listener) error) {
		for _, l := range ls {
			go func() {
				if err := serve(l); err != nil {
					failed(err)
				}
			}()
		}
	}
	each(m.proxies, m.server.Serve)
	each(m.secure, m.server.ServeTLS)
	each(m.socks, m.server.ServeSOCKS)
}

func (m *proxyMode) shutdown(ctx context.Context) {
	if m.server != nil {
		m.server.Shutdown(ctx)
	}
	if m.verifier != nil {
		m.verifier.Close()
	}
	if m.pods != nil {
		m.pods.close()
	}
	for _, l := range slices.Concat(m.proxies, m.secure, m.socks) {
		l.Close()
	}
}

func (m *proxyMode) ready() bool { return true }

func (m *proxyMode) size(c *config.Proxy) slog.Attr { return slog.Int("rules", c.RuleCount()) }

// maxShown bounds the rules on the status page.
const maxShown = 1000

func (m *proxyMode) show(c *config.Proxy, st *admin.Status) {
	st.Listen = append(st.Listen, m.listens()...)
	if st.Learning = c.Learn; c.Learn {
		st.Origin = cmp.Or(st.Origin, "nowhere")
	}
	for rule := range c.Policy.Rules() {
		if len(st.Rules) == maxShown {
			st.Origin += " (the first are shown)"
			break
		}
		st.Rules = append(st.Rules, admin.Rule{File: rule.Source, Line: rule.Line, Text: rule.Text})
	}
	showInspected("", c.Inspect, st)
	for _, t := range c.Tenants {
		showInspected(t.Name, t.Inspect, st)
	}
	m.parents.show(st)
	m.shadows.show(st)
	m.usages.show(c, st)
	if m.pods != nil {
		st.Directory = m.pods.text()
	}
}

// listens is where, and for whom.
func (m *proxyMode) listens() (all []string) {
	for _, of := range []struct {
		listeners []*sock.Listener
		what      string
	}{{m.proxies, ""}, {m.secure, " (TLS)"}, {m.socks, " (SOCKS 5)"}} {
		for _, l := range of.listeners {
			all = append(all, l.Addr().String()+of.what)
		}
	}
	return all
}

func (m *proxyMode) announce(c *config.Proxy) (a announcement) {
	a.what = "listens on " + strings.Join(m.listens(), ", ")
	var b strings.Builder
	if len(c.Tenants) > 0 {
		fmt.Fprintf(&b, "tenants: %d, with %d rules; for clients of none of them:\n", len(c.Tenants), c.RuleCount()-c.Policy.Len())
	}
	fmt.Fprintf(&b, "rules in force: %d", c.Policy.Len())
	if c.Origin != "" { // who learns needs none
		b.WriteString(" from " + c.Origin)
	}
	b.WriteByte('\n')
	shown, now := 0, time.Now()
	rules := c.InForce(c.Policy, now)
	for r := range rules.Rules() {
		if shown++; shown > 20 {
			fmt.Fprintf(&b, "  … and %d more\n", c.Policy.Len()-20)
			break
		}
		fmt.Fprintf(&b, "  %s%s\n", r.Text, map[bool]string{true: "  (expired)"}[r.Expired])
	}
	switch {
	case c.Learned != nil:
		b.WriteString("  learning: what they do not decide is allowed, and recorded\n")
	case c.Policy == nil:
		b.WriteString("  none: they are refused\n")
	case allowsNothing(rules):
		b.WriteString("  no rule allows anything: every request is denied\n")
		a.warnings = append(a.warnings, "the rules deny everything: none of them allows a destination; add one, such as example.com, or * for all")
	}
	a.rules = b.String()
	if url := tryURL(cmp.Or(c.InForce(c.Learned, now), rules).WithGuard(acl.Guard{Mode: c.Guard})); url != "" {
		a.try = "curl -x http://" + tryAddr(m.proxies[0].Addr()) + " " + url
	}
	return a
}

// tryAddr is where a client on this host reaches the listener.
func tryAddr(a netip.AddrPort) string {
	if a.Addr().IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", a.Port())
	}
	return a.String()
}
