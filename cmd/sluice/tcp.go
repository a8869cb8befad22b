package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/tcp"
)

func newTCPCommand(environ []string, s streams) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "tcp",
		Short: "Run the TCP proxy: fixed ports to destinations that DNS may move",
		Long: `Run the TCP proxy. Each line of EGRESS_DNS_PROXY_DESTINATION, "PORT HOST
[REMOTEPORT]", leads a port here to a host, whose name is followed as DNS changes.
SERVICE_TCP_PORT, SERVICE_DEST and SERVICE_DEST_PORT say the same for one port.

A flag wins over the environment, the environment over the file (--config).`,
	}
	settings.AddFlags(cmd.Flags(), config.TCPSettings())
	cmd.Flags().BoolVar(&check, "check", false, "check the settings and exit: 0 and silence, or 2 and every problem")
	cmd.SetUsageFunc(usageByGroup)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := settings.Input{Flags: cmd.Flags(), Environ: environ}
		if check {
			_, err := loadTCP(in)
			return err
		}
		return runTCP(cmd.Context(), in, s)
	}
	return cmd
}

// loadTCP loads the configuration and checks what only this host can tell.
func loadTCP(in settings.Input) (*config.TCP, error) {
	c, err := config.LoadTCP(in)
	if err != nil {
		return nil, wrong(err)
	}
	if err := outbound.CheckSources(policy.NewSources(c.Sources)); err != nil {
		return nil, wrong(err)
	}
	return c, nil
}

// negativeTTL bounds how long it is believed that a destination's name does not
// exist: a port without a destination should heal soon. The original asks as often.
const negativeTTL = time.Second

// tcpGateway is a running "sluice tcp".
type tcpGateway struct {
	log     *slog.Logger
	metrics *metrics.Metrics
	server  *tcp.Server
	resolve *resolve.Resolver
	access  *linelog.Log
	reload  *tcpReloader
	console *console
	started time.Time

	readyMu sync.Mutex // orders what is told to the admin port
}

// runTCP runs until ctx ends or a signal says so.
func runTCP(ctx context.Context, in settings.Input, s streams) error {
	in, followed := follow(in)
	c, err := loadTCP(in)
	if err != nil {
		return err
	}
	return keepRunning(c.LogLevel, s, func(r *running) error {
		g := &tcpGateway{started: time.Now(), log: r.log, metrics: r.metrics}
		g.reload = &tcpReloader{in: in, g: g, config: c}
		for _, w := range c.Warnings {
			g.log.Warn(w.Error())
		}
		limitMemory(g.log)
		defer g.close()
		if err := g.build(c, r.registry, s); err != nil {
			return err
		}
		return g.serve(ctx, g.reload.loop(followed), r)
	})
}

// build makes all parts and opens the ports.
func (g *tcpGateway) build(c *config.TCP, registry *prometheus.Registry, s streams) (err error) {
	if g.console, err = openConsole(c.Admin); err != nil {
		return err
	}
	g.console.handle(registry, g.status, c.Pprof, c.AdminHosts, g.log)
	if g.access, err = openAccessLog(c.AccessLog, g.metrics, g.log, s); err != nil {
		return err
	}
	budget, err := fdbudget.FromLimit()
	if err != nil {
		return fmt.Errorf("sluice: read the limit of open files: %w", err)
	}
	g.resolve, err = resolve.New(resolve.Options{Servers: c.Resolvers, Timeout: c.DNSTimeout, NegativeTTLMax: negativeTTL,
		Budget: budget, Log: g.log, Observe: observeDNS(&g.metrics.DNS)})
	if err != nil {
		return fmt.Errorf("sluice: %w", err)
	}
	gate := outbound.NewGate(g.resolve.Lookup, dial.TCP, outbound.NewPool(budget, time.Minute))
	gate.Begin = dial.Begin
	o := tcp.Options{
		Gate:     gate,
		TTL:      g.resolve.TTL,
		Metrics:  metrics.NewTCP(registry),
		Log:      g.log,
		Budget:   budget,
		Changed:  g.tellReady,
		Panicked: contain.Log(g.log, g.metrics.Panics.Inc),
	}
	if g.access != nil {
		o.Access = accesslog.New(g.access, accesslog.ConnectionJSON)
	}
	g.readyMu.Lock()
	g.server = tcp.New(o)
	g.readyMu.Unlock()
	if err := g.reload.publish(c); err != nil {
		return err
	}
	return nil
}

// tellReady tells the admin port whether a port has somewhere to lead.
func (g *tcpGateway) tellReady() {
	g.readyMu.Lock()
	defer g.readyMu.Unlock()
	if g.server != nil {
		g.console.ready(g.server.Ready())
	}
}

// serve runs until a signal, then drains.
func (g *tcpGateway) serve(ctx context.Context, loop *reloadLoop, r *running) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	g.console.serve(failed)
	reloads := make(chan struct{}, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		loop.run(ctx, reloads)
	}()
	r.announce(g.announce)
	hangUp := func() {
		g.access.Reopen()
		poke(reloads)
	}
	sig, err := r.attend(ctx, failed, hangUp)
	g.console.leave()
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
func (g *tcpGateway) close() {
	if g.server != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		g.server.Shutdown(now)
	}
	g.console.close()
	if g.resolve != nil {
		g.resolve.Close()
	}
	closeAccessLog(g.access, g.log)
}

// announce tells a person what runs.
func (g *tcpGateway) announce(s streams) {
	c := g.reload.config
	ports := g.server.Status()
	fmt.Fprintf(s.err, "sluice %s leads %d port%s to destinations from %s", version, len(ports), map[bool]string{false: "s"}[len(ports) == 1], c.Origin)
	if g.console != nil {
		fmt.Fprintf(s.err, ", admin on http://%s/", g.console.l.Addr())
	}
	fmt.Fprintln(s.err)
	for _, p := range ports {
		for _, d := range p.Destinations {
			fmt.Fprintf(s.err, "  %s > %s\n", p.Addr, d.Label)
		}
	}
	fmt.Fprintf(s.err, "source address: %s\n", policy.NewSources(c.Sources))
	if len(ports) > 0 {
		fmt.Fprintf(s.err, "try: nc %s\n", ncAddr(ports[0].Addr.String()))
	}
	if c.Guard.String() == "off" {
		g.log.Warn("the guard is off: names may lead to loopback, link-local and this host's own addresses")
	}
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
