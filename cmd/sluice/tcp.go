package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tcp"
)

var tcpCommand = modeCommand[*config.TCP]{
	use:   "tcp",
	short: "Run the TCP proxy: fixed ports to destinations that DNS may move",
	long: `Run the TCP proxy. Each line of EGRESS_DNS_PROXY_DESTINATION, "PORT HOST
[REMOTEPORT]", leads a port here to a host, whose name is followed as DNS changes.
SERVICE_TCP_PORT, SERVICE_DEST and SERVICE_DEST_PORT say the same for one port.

A flag wins over the environment, the environment over the file (--config).`,
	settings: config.TCPSettings(),
	load:     config.LoadTCP,
	// A port without a destination should heal soon. The original asks as often.
	negativeTTL: time.Second,
	unguarded:   "the guard is off: names may lead to loopback, link-local and this host's own addresses",
	new:         func() mode[*config.TCP] { return &tcpMode{} },
}

// tcpMode is the TCP proxy.
type tcpMode struct {
	server *tcp.Server
}

// open opens no port: apply does, since a reload may name others.
func (m *tcpMode) open(_ *config.TCP, p *parts) error {
	o := tcp.Options{
		Gate:     p.gate,
		TTL:      p.resolve.TTL,
		Metrics:  metrics.NewTCP(p.registry),
		Log:      p.log,
		Budget:   p.budget,
		Listen:   p.listen,
		Changed:  p.changed,
		Panicked: contain.Log(p.log, p.metrics.Panics.Inc),
	}
	if p.access != nil {
		o.Access = accesslog.New(p.access, accesslog.ConnectionJSON)
	}
	m.server = tcp.New(o)
	return nil
}

// tenants are whose the destinations are, whoever the client is: the ports say it.
func (m *tcpMode) tenants(c *config.TCP, s *policy.Set, _ time.Time) {
	for i, t := range c.Tenants {
		s.Tenants[i].Rules = c.Policy.WithGuard(acl.Guard{Mode: t.Guard, Own: s.Own})
	}
}

func (m *tcpMode) apply(_, now *config.TCP, gen *policy.Generation) error {
	if err := m.server.Apply(tcpConfig(now, gen)); err != nil {
		return ofPorts(now.Origin, err)
	}
	return nil
}

// tcpConfig is c as the server takes it.
func tcpConfig(c *config.TCP, gen *policy.Generation) tcp.Config {
	out := tcp.Config{
		Generation: gen, MaxConns: c.MaxConns, HeadTimeout: c.HeadTimeout,
		ConnectTimeout: c.ConnectTimeout, DNSTimeout: c.DNSTimeout, IdleTimeout: c.IdleTimeout,
	}
	for _, l := range c.Listeners {
		to := tcp.Listener{
			Label: strings.TrimPrefix(l.Listen, ":"), Name: l.Name, Listen: l.Listen,
			Balance:     map[string]tcp.Balance{"least-connections": tcp.LeastConnections, "source-hash": tcp.SourceHash}[l.Balance],
			SendProxy:   map[string]int{"v1": 1, "v2": 2}[l.SendProxy],
			AcceptProxy: l.AcceptProxy, Check: tcp.Check(l.Check), Destinations: l.Destinations, Tenant: l.Tenant,
		}
		for _, r := range l.Routes {
			to.Routes = append(to.Routes, tcp.Route(r))
		}
		out.Listeners = append(out.Listeners, to)
	}
	return out
}

// serve has nothing to do: a port takes connections once it is open.
func (m *tcpMode) serve(func(error)) {}

func (m *tcpMode) renew(gen *policy.Generation) { m.server.SetGeneration(gen) }

func (m *tcpMode) revoke() { m.server.Revoke() }

func (m *tcpMode) cut() { m.server.Cut((*door.Open).Connected) }

func (m *tcpMode) shutdown(ctx context.Context) {
	if m.server != nil {
		m.server.Shutdown(ctx)
	}
}

func (m *tcpMode) ready() bool { return m.server.Ready() }

func (m *tcpMode) size(c *config.TCP) slog.Attr { return slog.Int("ports", len(c.Listeners)) }

// show says for each port where it leads, and how that is.
func (m *tcpMode) show(_ *config.TCP, st *admin.Status) {
	for _, p := range m.server.Status() {
		st.Listen = append(st.Listen, p.Addr.String())
		for _, d := range p.Destinations {
			st.Rules = append(st.Rules, admin.Rule{Line: len(st.Rules) + 1, Text: p.Label + " > " + d.String()})
		}
	}
}

func (m *tcpMode) announce(c *config.TCP) (a announcement) {
	ports := m.server.Status()
	a.what = fmt.Sprintf("leads %d port%s to destinations from %s", len(ports), map[bool]string{false: "s"}[len(ports) == 1], c.Origin)
	for _, p := range ports {
		for _, d := range p.Destinations {
			a.rules += fmt.Sprintf("  %s > %s\n", p.Addr, d.Label)
		}
	}
	if len(ports) > 0 {
		a.try = "nc " + ncAddr(ports[0].Addr.String())
	}
	return a
}

// ncAddr is a listening address as nc takes it.
func ncAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if host == "::" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	return host + " " + port
}
