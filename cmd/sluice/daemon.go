package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/reload"
	"github.com/sluiceproxy/sluice/internal/reload/inotify"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
)

// daemon is a running mode.
type daemon[C configuration] struct {
	*running
	command *modeCommand[C]
	mode    mode[C]
	reload  *reload.Reloader[C]
	turn    *turn // nil: the source addresses are always here
	sockets *inherited
	manager *manager
	parts   parts
	console *console
	fixed   settings.Fixed // what all that is made at the start was made of
	started time.Time
	clock   func() time.Time // nil: time.Now; for tests
	ended   bool             // the mode is shut down

	// force is held to put something in force: a configuration, the addresses of this host, or
	// whose turn it is. What is judged by is always made of all three as they are then. It is
	// not held to make a configuration, which may take seconds.
	force  sync.Mutex
	config C            // in force
	named  named        // what it is called
	own    []netip.Addr // addresses of this host, which the guard goes by
	judged judged       // what is in force; its zero value: nothing was yet
	// judgedNext is that of the generation that was made last, which may never be in force.
	judgedNext judged
	next       *policy.Generation // likewise
	inUse      atomic.Pointer[policy.Generation]
	changes    changes

	readyMu sync.Mutex // orders what is told to the admin port
	open    bool       // there is something to tell
}

// run runs until ctx ends or a signal says so. It listens first, and serves when all is in
// place.
func (m *modeCommand[C]) run(ctx context.Context, in settings.Input, s streams) error {
	r := reload.New[C]()
	in.ReadFile = r.ReadFile
	c, err := m.checked(in)
	if err != nil {
		return err
	}
	return keepRunning(c.Shared().LogLevel, s, func(running *running) error {
		d := &daemon[C]{running: running, command: m, mode: m.new(), reload: r, fixed: c.Fixed(), started: time.Now()}
		d.changes = changes{log: d.log, contain: contain.Reporter(d.panicked).Do}
		d.manager = &manager{notify: s.notify, log: d.log}
		if d.sockets, err = inherit(s.sockets); err != nil {
			return err
		}
		defer d.sockets.close()
		r.Options = reload.Options[C]{
			Load:     func() (C, error) { return m.checked(in) },
			Publish:  d.publish,
			Watch:    func(c C) []string { return c.Shared().Watch },
			Tick:     d.tick,
			Reloaded: d.reloaded,
			Refused:  d.refused,
			Every:    pollEvery,
			Notify:   inotify.New,
			Log:      d.log,
			Contain:  contain.Reporter(d.panicked).Do,
		}
		d.warn(c)
		limitMemory(d.log)
		defer d.close()
		if err := d.build(c, s); err != nil {
			return err
		}
		var none C
		c = none // or its rules would be kept beside those of reloads
		return d.serve(ctx)
	})
}

// pollEvery is how often files are compared whatever the kernel reports, and how often
// this host's addresses are listed.
const pollEvery = 5 * time.Second

// panicked reports a fault in the service of a reload, which goes on.
func (d *daemon[C]) panicked(cause any, stack []byte) {
	d.metrics.Panics.Inc()
	d.log.Error("a fault of the program has ended a reload; please report it", "panic", fmt.Sprint(cause), "stack", string(stack))
}

// build makes all parts and opens the ports.
func (d *daemon[C]) build(c C, s streams) (err error) {
	common := c.Shared()
	p := &d.parts
	p.log, p.metrics, p.registry, p.changed, p.listen = d.log, d.metrics, d.registry, d.tellReady, d.sockets.listen
	if p.access, err = openAccessLog(common.AccessLog, d.metrics, d.log, s); err != nil {
		return err
	}
	if p.budget, err = fdbudget.FromLimit(); err != nil {
		return fmt.Errorf("sluice: read the limit of open files: %w", err)
	}
	p.resolve, err = resolve.New(resolve.Options{Servers: common.Resolvers, Timeout: common.DNSTimeout, NegativeTTLMax: d.command.negativeTTL,
		Budget: p.budget, Log: d.log, Observe: observeDNS(&d.metrics.DNS)})
	if err != nil {
		return fmt.Errorf("sluice: %w", err)
	}
	to := dial.Dialer{Held: common.Holder != ""}
	p.gate = outbound.NewGate(p.resolve.Lookup, to.TCP, outbound.NewPool(p.budget, time.Minute))
	p.gate.Begin = to.Begin
	if err := d.mode.open(c, p); err != nil {
		return err
	}
	if d.console, err = openConsole(d.sockets.listenPlain, common.Written.Of("admin"), common.Admin); err != nil {
		return err
	}
	d.console.handle(d.registry, d.status, common.Pprof, common.AdminHosts, d.log)
	if common.Holder != "" {
		d.turn = newTurn(common.Holder, d.log)
		d.showTurn()
	}
	if err := d.reload.Start(c); err != nil {
		return err
	}
	if err := d.sockets.unclaimed(); err != nil {
		return err
	}
	d.showPolicy()
	d.count(c)
	return nil
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
func (d *daemon[C]) serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default: // one is enough
		}
	}
	d.mode.serve(fail)
	d.console.serve(fail)
	d.readyMu.Lock()
	d.open = true
	d.readyMu.Unlock()
	d.tellReady()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.reload.Run(ctx)
	}()
	followed := d.followTurn(ctx)
	d.announce()
	d.manager.ready()
	hangUp := func() {
		d.manager.reloading()
		d.parts.access.Reopen()
		d.reload.Ask()
	}
	sig, err := d.attend(ctx, failed, hangUp)
	d.manager.stopping()
	d.console.leave() // the admin port answers meanwhile
	limit := d.inForce().DrainTimeout
	if sig != nil {
		if d.turn != nil {
			limit, err = d.handOver(ctx, limit, failed, hangUp)
		}
		if err == nil {
			err = d.linger(ctx, d.inForce().ShutdownDelay, failed, hangUp)
		}
	}
	drain, cancel := d.drain(sig, limit)
	defer cancel()
	if d.turn == nil {
		stop()
		settled(watched)
	}
	d.ended = true
	d.mode.shutdown(drain)
	d.turn.drained()
	stop()
	settled(watched)
	<-followed
	if err != nil {
		return fmt.Errorf("sluice: %w", err)
	}
	return nil
}

// close ends the parts in the order in which they use each other. It closes what
// build had come to.
func (d *daemon[C]) close() {
	d.endExpiry()
	if !d.ended {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		d.mode.shutdown(now)
	}
	d.console.close()
	if d.parts.resolve != nil {
		d.parts.resolve.Close()
	}
	closeAccessLog(d.parts.access, d.log)
}

// tellReady tells the admin port whether clients can be served.
func (d *daemon[C]) tellReady() {
	d.readyMu.Lock()
	defer d.readyMu.Unlock()
	if d.open {
		d.console.ready(d.mode.ready() || d.turn.standsBy())
	}
}

func (d *daemon[C]) inForce() *config.Common { return d.reload.State().Config.Shared() }

// reloaded says what a reload has put in force, and what it could not.
func (d *daemon[C]) reloaded(now C) {
	c := now.Shared()
	d.warn(now)
	if names := now.NeedRestart(d.fixed); len(names) > 0 {
		d.log.Warn("settings changed that only a restart puts in force", "settings", strings.Join(names, ", "))
	}
	d.log.Info("reloaded", d.mode.size(now), "from", c.Origin)
	if c.RuleCount() == 0 && !now.Learns() {
		d.log.Warn("there is no rule now: everything is denied", "from", c.Origin)
	}
	d.count(now)
	d.manager.reloaded("")
}

// refused says that a reload has changed nothing.
func (d *daemon[C]) refused() {
	d.metrics.Reloaded(false, 0, time.Time{})
	d.manager.reloaded("the last reload was refused, and the configuration before stays in force; the log says why")
}

// count has the metrics say that c is in force.
func (d *daemon[C]) count(c C) { d.metrics.Reloaded(true, c.Shared().RuleCount(), time.Now()) }

func (d *daemon[C]) warn(c C) {
	for _, w := range c.Shared().Warnings {
		d.log.Warn(w.Error())
	}
}

// announce tells a person what runs and how to try it.
func (d *daemon[C]) announce() {
	now := d.reload.State().Config
	c, a := now.Shared(), d.mode.announce(now)
	for _, w := range a.warnings {
		d.log.Warn(w, "from", c.Origin)
	}
	if c.Guard == acl.GuardOff {
		d.log.Warn(d.command.unguarded)
	}
	at := ""
	if d.console != nil {
		at = fmt.Sprintf(", admin on http://%s/", d.console.l.Addr())
	}
	try := ""
	if a.try != "" {
		try = "try: " + a.try + "\n"
	}
	fmt.Fprintf(d.said, "sluice %s %s%s\n%ssource address: %s\n%s", version, a.what, at, a.rules, d.sources(c), try)
}

// status is what the status page shows.
func (d *daemon[C]) status() admin.Status {
	s := d.reload.State()
	c := s.Config.Shared()
	st := admin.Status{Version: version, Started: d.started, Source: d.sources(c).String(), Guard: c.Guard.String(), Origin: c.Origin, Loaded: s.Loaded, Policy: d.named.String(), Change: d.changes.latest()}
	if s.Err != nil {
		st.Problem = s.Err.Error()
	}
	d.mode.show(s.Config, &st)
	return st
}
