package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func newProxyCommand(environ []string, s streams) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Run the HTTP/HTTPS forward proxy",
		Long: `Run the forward proxy. Clients use it by http_proxy and https_proxy; what they
may reach is what the rules allow, from the address in EGRESS_SOURCE.

A flag wins over the environment, the environment over the file (--config).`,
	}
	settings.AddFlags(cmd.Flags(), config.ProxySettings())
	cmd.Flags().BoolVar(&check, "check", false, "check the settings and exit: 0 and silence, or 2 and every problem")
	cmd.SetUsageFunc(usageByGroup)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := settings.Input{Flags: cmd.Flags(), Environ: environ}
		if check {
			_, err := loadProxy(in)
			return err
		}
		return runProxy(cmd.Context(), in, s)
	}
	return cmd
}

// usageByGroup prints the flags under their headings.
func usageByGroup(cmd *cobra.Command) error {
	fmt.Fprintf(cmd.OutOrStderr(), "Usage:\n  %s\n", cmd.UseLine())
	for _, g := range settings.Usages(cmd.Flags()) {
		fmt.Fprintf(cmd.OutOrStderr(), "\n%s:\n%s", g.Title, g.Flags)
	}
	return nil
}

// loadProxy loads the configuration and checks what only this host can tell.
func loadProxy(in settings.Input) (*config.Proxy, error) {
	c, err := config.LoadProxy(in)
	if err != nil {
		return nil, wrong(err)
	}
	if err := outbound.CheckSources(policy.NewSources(c.Sources)); err != nil {
		return nil, wrong(err)
	}
	return c, nil
}

// gateway is a running "sluice proxy".
type gateway struct {
	config  *config.Proxy
	log     *slog.Logger
	metrics *metrics.Metrics
	server  *proxy.Server
	resolve *resolve.Resolver
	access  *linelog.Log
	reload  *reloader
	loop    *reloadLoop
	proxies []*sock.Listener
	console *console
	started time.Time
}

// runProxy runs until ctx ends or a signal says so. It listens first, and serves
// when all is in place.
func runProxy(ctx context.Context, in settings.Input, s streams) error {
	in, followed := follow(in)
	c, err := loadProxy(in)
	if err != nil {
		return err
	}
	return keepRunning(c.LogLevel, s, func(r *running) error {
		g := &gateway{config: c, started: time.Now(), log: r.log, metrics: r.metrics}
		for _, w := range c.Warnings {
			g.log.Warn(w.Error())
		}
		limitMemory(g.log)
		defer g.close()
		if err := g.build(in, followed, r.registry, s); err != nil {
			return err
		}
		return g.serve(ctx, r)
	})
}

// build makes all parts and opens the ports, proxy ports first.
func (g *gateway) build(in settings.Input, followed *files.Follower, registry *prometheus.Registry, s streams) error {
	c := g.config
	for _, addr := range c.Listen {
		l, err := sock.Listen(addr)
		if err != nil {
			return listenError("--listen", addr, err)
		}
		g.proxies = append(g.proxies, l)
	}
	var err error
	if g.console, err = openConsole(c.Admin); err != nil {
		return err
	}
	if g.access, err = openAccessLog(c.AccessLog, g.metrics, g.log, s); err != nil {
		return err
	}
	budget, err := fdbudget.FromLimit()
	if err != nil {
		return fmt.Errorf("sluice: read the limit of open files: %w", err)
	}
	g.resolve, err = resolve.New(resolve.Options{Servers: c.Resolvers, Timeout: c.DNSTimeout,
		Budget: budget, Log: g.log, Observe: observeDNS(&g.metrics.DNS)})
	if err != nil {
		return fmt.Errorf("sluice: %w", err)
	}
	g.server = proxy.New(serverOptions(c, g, budget))
	g.reload = &reloader{in: in, g: g}
	g.loop = g.reload.loop(followed)
	g.reload.publish(c)
	g.console.handle(registry, g.status, c.Pprof, c.AdminHosts, g.log)
	return nil
}

func serverOptions(c *config.Proxy, g *gateway, budget *fdbudget.Budget) proxy.Options {
	gate := outbound.NewGate(g.resolve.Lookup, dial.TCP, outbound.NewPool(budget, time.Minute))
	gate.Known, gate.Begin = g.resolve.Known, dial.Begin
	o := proxy.Options{
		Gate:             gate,
		Metrics:          g.metrics,
		Log:              g.log,
		Budget:           budget,
		ForwardedFor:     c.ForwardedFor,
		Head:             http1.Limits{MaxHead: c.MaxHead, MaxFields: c.MaxFields},
		AnswerHead:       http1.Limits{MaxHead: c.MaxAnswerHead, MaxFields: c.MaxAnswerFields},
		MaxConns:         c.MaxConns,
		HeadTimeout:      c.HeadTimeout,
		ConnectTimeout:   c.ConnectTimeout,
		IdleTimeout:      c.IdleTimeout,
		KeepAliveTimeout: c.KeepAliveTimeout,
		HalfCloseTimeout: c.HalfCloseTimeout,
		MinRate:          c.MinRate,
	}
	if g.access != nil {
		o.Access = accesslog.New(g.access, accesslog.Formats[c.AccessLogFormat])
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

// observeDNS counts what the resolver does.
func observeDNS(m *metrics.DNS) func(resolve.Event) {
	return func(e resolve.Event) {
		if e.Kind.IsQuery() {
			m.Query(e.Kind.String(), e.Kind == resolve.QueryAnswered, e.Duration)
		} else {
			m.Lookup(e.Kind.String())
		}
	}
}

// serve runs until a signal, then drains.
func (g *gateway) serve(ctx context.Context, r *running) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, len(g.proxies)+1)
	for _, l := range g.proxies {
		go func() { failed <- g.server.Serve(l) }()
	}
	g.console.serve(failed)
	g.console.ready(true)
	reloads := make(chan struct{}, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		g.loop.run(ctx, reloads)
	}()
	r.announce(g.announce)
	hangUp := func() {
		g.access.Reopen()
		poke(reloads)
	}
	sig, err := r.attend(ctx, failed, hangUp)
	g.console.leave() // the admin port answers meanwhile
	if sig != nil {
		err = r.linger(ctx, g.reload.inForce().ShutdownDelay, failed, hangUp)
	}
	stop()
	settled(watched)
	drain, cancel := r.drain(sig, g.reload.inForce().DrainTimeout)
	defer cancel()
	g.server.Shutdown(drain)
	if err != nil {
		return fmt.Errorf("sluice: %w", err)
	}
	return nil
}

// close ends the parts in the order in which they use each other. It closes what
// build had come to.
func (g *gateway) close() {
	for _, l := range g.proxies {
		l.Close()
	}
	g.console.close()
	if g.resolve != nil {
		g.resolve.Close()
	}
	closeAccessLog(g.access, g.log)
}
