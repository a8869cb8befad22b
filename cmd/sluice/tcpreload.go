package main

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tcp"
)

// tcpReloader puts new configurations of "sluice tcp" in force, whole or not at
// all.
type tcpReloader struct {
	in    settings.Input
	g     *tcpGateway
	files *files.Follower

	mu      sync.Mutex // guards what the status page shows
	config  *config.TCP
	own     []netip.Addr
	loaded  time.Time
	problem string
}

// loop is what calls for reloads.
func (r *tcpReloader) loop(f *files.Follower) *reloadLoop {
	r.files = f
	return &reloadLoop{files: f, log: r.g.log, load: r.load, poll: r.refreshOwn, inUse: func() []string {
		if r.problem != "" {
			return nil
		}
		return r.config.Watch
	}}
}

// load builds a configuration and puts it in force, or keeps the one before.
func (r *tcpReloader) load() {
	before := r.config
	c, err := loadTCP(r.in)
	if r.files.Grew() {
		return
	}
	if err == nil {
		err = r.publish(c)
	}
	if err != nil {
		r.g.metrics.Reloaded(false, 0, time.Time{})
		r.mu.Lock()
		r.problem = err.Error()
		r.mu.Unlock()
		logRefused(r.g.log, err)
		return
	}
	if names := c.NeedRestart(before); len(names) > 0 {
		r.g.log.Warn("settings changed that only a restart puts in force", "settings", strings.Join(names, ", "))
	}
	r.g.log.Info("reloaded", "ports", len(c.Listeners), "from", c.Origin)
}

// inForce is the configuration in force.
func (r *tcpReloader) inForce() *config.TCP {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

// publish puts c in force. It fails, and has changed nothing, when a port cannot
// be opened.
func (r *tcpReloader) publish(c *config.TCP) error {
	own, err := outbound.HostAddrs()
	if err != nil {
		r.g.log.Error("the guard goes by the addresses listed before", "error", err)
		own = r.own
	}
	if err := r.g.server.Apply(tcpConfig(c, generationOf(c, own))); err != nil {
		return ofPorts(c.Origin, err)
	}
	for _, w := range c.Warnings {
		r.g.log.Warn(w.Error())
	}
	r.g.metrics.Reloaded(true, c.Policy.Len(), time.Now())
	r.mu.Lock()
	r.config, r.own, r.loaded, r.problem = c, own, time.Now(), ""
	r.mu.Unlock()
	return nil
}

// refreshOwn renews the guard when this host's addresses have changed.
func (r *tcpReloader) refreshOwn() {
	own, err := outbound.HostAddrs()
	if err != nil || slices.Equal(own, r.own) {
		return
	}
	r.mu.Lock()
	r.own = own
	r.mu.Unlock()
	r.g.log.Info("this host's addresses changed, and are guarded", "addresses", own)
	r.g.server.SetGeneration(generationOf(r.config, own))
}

func generationOf(c *config.TCP, own []netip.Addr) *policy.Generation {
	return policy.New(policy.Tenant{
		Rules:   c.Policy.WithGuard(acl.Guard{Mode: c.Guard, Own: own}),
		Sources: policy.NewSources(c.Sources),
	})
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
			AcceptProxy: l.AcceptProxy, Check: tcp.Check(l.Check), Destinations: l.Destinations,
		}
		for _, r := range l.Routes {
			to.Routes = append(to.Routes, tcp.Route(r))
		}
		out.Listeners = append(out.Listeners, to)
	}
	return out
}

// status is what the status page shows: for each port where it leads, and how
// that is.
func (g *tcpGateway) status() admin.Status {
	r := g.reload
	st := admin.Status{Version: version, Started: g.started}
	r.mu.Lock()
	st.Source, st.Guard = policy.NewSources(r.config.Sources).String(), r.config.Guard.String()
	st.Origin, st.Loaded, st.Problem = r.config.Origin, r.loaded, r.problem
	r.mu.Unlock()
	for _, p := range g.server.Status() {
		st.Listen = append(st.Listen, p.Addr.String())
		for _, d := range p.Destinations {
			st.Rules = append(st.Rules, admin.Rule{Line: len(st.Rules) + 1, Text: p.Label + " > " + d.String()})
		}
	}
	return st
}
