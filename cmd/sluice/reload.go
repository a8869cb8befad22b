package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// settle is how long files must be quiet before they are read: an editor, and the
// kubelet, make several steps of one change.
const settle = 50 * time.Millisecond

// pollEvery is how often files are compared whatever the kernel reports, since
// not every file system does, and how often this host's addresses are listed.
const pollEvery = 5 * time.Second

// reads remembers what was last read from each file, so that a change is found by
// what the file says, and what was judged is what was read.
type reads struct {
	mu    sync.Mutex
	bytes map[string][]byte
}

// rememberReads makes in remember what it reads.
func rememberReads(in config.Input) (config.Input, *reads) {
	r := &reads{bytes: make(map[string][]byte)}
	in.ReadFile = func(path string) ([]byte, error) {
		b, err := os.ReadFile(path)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bytes[path] = b
		return b, err
	}
	return in, r
}

// changed reports whether one of the files says something else than when it was
// last read. One that cannot be read now has changed.
func (r *reads) changed(paths []string) bool {
	for _, p := range paths {
		b, err := os.ReadFile(p)
		r.mu.Lock()
		old := r.bytes[p]
		r.mu.Unlock()
		if err != nil && old != nil || !bytes.Equal(b, old) {
			return true
		}
	}
	return false
}

// reloadLoop calls for a reload when asked to, and when a file has changed.
type reloadLoop struct {
	read  *reads
	log   *slog.Logger
	files func() []string // of the configuration in force
	load  func()
	poll  func() // called every pollEvery
}

// run returns when ctx ends. load and poll are called by it alone.
func (r *reloadLoop) run(ctx context.Context, asked <-chan struct{}) {
	watcher, events := r.watch()
	if watcher != nil {
		defer watcher.Close()
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			r.load()
		case <-events:
			quiet.Reset(settle)
		case <-quiet.C:
			r.loadIfChanged()
		case <-poll.C:
			r.loadIfChanged()
			r.poll()
		}
	}
}

// watch watches the folders of the files: a ConfigMap changes by a symbolic link
// beside them.
func (r *reloadLoop) watch() (*fsnotify.Watcher, <-chan fsnotify.Event) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("cannot watch files, they are compared every "+pollEvery.String()+" instead", "error", err)
		return nil, nil
	}
	for _, p := range r.files() {
		if err := w.Add(filepath.Dir(p)); err != nil {
			r.log.Warn("cannot watch a folder, its files are compared every "+pollEvery.String()+" instead", "file", p, "error", err)
		}
	}
	go func() {
		for range w.Errors { // an overflow, say: the poll finds what was missed
		}
	}()
	return w, w.Events
}

func (r *reloadLoop) loadIfChanged() {
	if r.read.changed(r.files()) {
		r.load()
	}
}

// logRefused says why a reload was refused, a line a problem.
func logRefused(log *slog.Logger, err error) {
	for line := range strings.Lines(err.Error()) {
		log.Error("reload refused, the configuration before stays in force", "problem", strings.TrimSpace(line))
	}
}

// reloader puts new configurations of the proxy in force: built whole first, or
// not at all.
type reloader struct {
	in config.Input
	g  *gateway

	mu      sync.Mutex // guards what the status page shows
	config  *config.Proxy
	own     []netip.Addr
	loaded  time.Time
	problem string
}

// loop is what calls for reloads.
func (r *reloader) loop(read *reads) *reloadLoop {
	return &reloadLoop{read: read, log: r.g.log, files: func() []string { return r.config.Watch }, load: r.load, poll: r.refreshOwn}
}

// load builds a configuration and puts it in force, or keeps the one before.
func (r *reloader) load() {
	c, err := loadProxy(r.in)
	if err != nil {
		r.g.metrics.Reloaded(false, 0, time.Time{})
		r.mu.Lock()
		r.problem = err.Error()
		r.mu.Unlock()
		logRefused(r.g.log, err)
		return
	}
	for _, w := range c.Warnings {
		r.g.log.Warn(w.Error())
	}
	if names := needRestart(r.config, c, live); len(names) > 0 {
		r.g.log.Warn("settings changed that only a restart puts in force", "settings", strings.Join(names, ", "))
	}
	r.publish(c)
	r.g.log.Info("reloaded", "rules", c.Policy.Len(), "from", c.Rules.Source)
}

// inForce is the configuration in force.
func (r *reloader) inForce() *config.Proxy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

// publish puts c in force.
func (r *reloader) publish(c *config.Proxy) {
	own, err := outbound.HostAddrs()
	if err != nil {
		r.g.log.Error("the guard goes by the addresses listed before", "error", err)
		own = r.own
	}
	r.g.metrics.Reloaded(true, c.Policy.Len(), time.Now())
	r.mu.Lock()
	r.config, r.own, r.loaded, r.problem = c, own, time.Now(), ""
	r.mu.Unlock()
	r.setGeneration()
}

// refreshOwn renews the guard when this host's addresses have changed.
func (r *reloader) refreshOwn() {
	own, err := outbound.HostAddrs()
	if err != nil || slices.Equal(own, r.own) {
		return
	}
	r.mu.Lock()
	r.own = own
	r.mu.Unlock()
	r.g.log.Info("this host's addresses changed, and are guarded", "addresses", own)
	r.setGeneration()
}

func (r *reloader) setGeneration() {
	r.g.server.SetGeneration(&outbound.Generation{
		Policy:  r.config.Policy.WithGuard(acl.Guard{Mode: r.config.Guard, Own: r.own}),
		Sources: outbound.NewSources(r.config.Sources),
	})
}

// live are the settings that a reload puts in force; the others belong to what was
// made at start.
var live = []string{"Rules", "Policy", "Guard", "Sources", "Watch", "Warnings", "ShutdownDelay", "DrainTimeout"}

// needRestart names the settings of b that differ from those of a and are not live.
func needRestart[T any](a, b *T, live []string) (names []string) {
	va, vb := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range va.NumField() {
		name := va.Type().Field(i).Name
		if !va.Type().Field(i).IsExported() {
			continue
		}
		if !slices.Contains(live, name) && !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	return names
}

// maxShown bounds the rules on the status page.
const maxShown = 1000

// status fills in what the reloader knows.
func (r *reloader) status(st *admin.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Source = outbound.NewSources(r.config.Sources).String()
	st.Guard = r.config.Guard.String()
	st.Origin, st.Loaded, st.Problem = r.config.Rules.Source, r.loaded, r.problem
	for rule := range r.config.Policy.Rules() {
		if len(st.Rules) == maxShown {
			st.Origin += " (the first are shown)"
			break
		}
		st.Rules = append(st.Rules, admin.Rule{File: rule.Source, Line: rule.Line, Text: rule.Text})
	}
}
