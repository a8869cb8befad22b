package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// settle is how long files must be quiet before they are looked at: an editor, and the
// kubelet, make several steps of one change.
const settle = 50 * time.Millisecond

// pollEvery is how often files are compared whatever the kernel reports, since
// not every file system does, and how often this host's addresses are listed.
const pollEvery = 5 * time.Second

// restless is after how many looks in vain it is said that files do not stand still.
const restless = 20

// follow has in read its files by a follower: a change is found by what the files say,
// and what is judged is what was read.
func follow(in settings.Input) (settings.Input, *files.Follower) {
	f := new(files.Follower)
	in.ReadFile = f.Read
	return in, f
}

// reloadLoop calls for a reload when asked to, and when a file has changed and stands
// still again.
type reloadLoop struct {
	files  *files.Follower
	log    *slog.Logger
	load   func()          // unless files.Grew, which it asks when it has read
	inUse  func() []string // files of the configuration in force; nil after a refusal: all are followed
	poll   func()          // called every pollEvery
	again  *time.Timer     // when to look
	armed  bool            // again runs
	moving int             // looks that found files moving, one behind the other
}

// run returns when ctx ends. The functions are called by it alone.
func (r *reloadLoop) run(ctx context.Context, asked <-chan struct{}) {
	r.files.Done(r.inUse())
	watcher, events := r.watch()
	if watcher != nil {
		defer watcher.Close()
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	r.again = time.NewTimer(settle)
	r.again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			r.files.Ask()
			r.lookIn(0)
		case e := <-events:
			if r.concerns(e) {
				r.lookIn(settle)
			}
		case <-r.again.C:
			r.armed = false
			r.look(watcher)
		case <-poll.C:
			if !r.files.Pending() {
				r.look(watcher)
			}
			r.poll()
		}
	}
}

// look loads when the files have changed and stand still, or has them looked at again.
func (r *reloadLoop) look(watcher *fsnotify.Watcher) {
	switch r.files.Look() {
	case files.Unchanged:
		r.moving = 0
		return
	case files.Moving:
		if r.moving++; r.moving == restless {
			r.log.Warn("files are written to all the time, and are not read before that ends", "files", r.files.Paths())
		}
	case files.Settled:
		r.moving = 0
		r.load()
		if !r.files.Pending() {
			r.files.Done(r.inUse())
		}
		r.watchFolders(watcher)
	}
	if r.files.Pending() {
		r.lookIn(files.Still)
	}
}

// lookIn has the files looked at soon, unless they are to be anyway: who writes all the
// time must not put that off for ever.
func (r *reloadLoop) lookIn(d time.Duration) {
	if !r.armed {
		r.armed = true
		r.again.Reset(d)
	}
}

// concerns reports whether an event in a watched folder may change what the files say. A
// name that appears or goes may, since there are symbolic links; what is written to
// another file may not: it may be the access log.
func (r *reloadLoop) concerns(e fsnotify.Event) bool {
	if e.Op&^(fsnotify.Write|fsnotify.Chmod) != 0 {
		return true
	}
	return slices.ContainsFunc(r.files.Paths(), func(p string) bool { return filepath.Clean(p) == filepath.Clean(e.Name) })
}

// watch watches the folders of the files: a ConfigMap changes by a symbolic link
// beside them.
func (r *reloadLoop) watch() (*fsnotify.Watcher, <-chan fsnotify.Event) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("cannot watch files, they are compared every "+pollEvery.String()+" instead", "error", err)
		return nil, nil
	}
	r.watchFolders(w)
	go func() {
		for range w.Errors { // an overflow, say: the poll finds what was missed
		}
	}()
	return w, w.Events
}

// watchFolders watches those that are not watched yet.
func (r *reloadLoop) watchFolders(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	for _, p := range r.files.Paths() {
		if err := w.Add(filepath.Dir(p)); err != nil {
			r.log.Warn("cannot watch a folder, its files are compared every "+pollEvery.String()+" instead", "file", p, "error", err)
		}
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
	in    settings.Input
	g     *gateway
	files *files.Follower

	mu      sync.Mutex // guards what the status page shows
	config  *config.Proxy
	own     []netip.Addr
	loaded  time.Time
	problem string
}

// loop is what calls for reloads.
func (r *reloader) loop(f *files.Follower) *reloadLoop {
	r.files = f
	return &reloadLoop{files: f, log: r.g.log, load: r.load, poll: r.refreshOwn, inUse: func() []string {
		if r.problem != "" {
			return nil
		}
		return r.config.Watch
	}}
}

// load builds a configuration and puts it in force, or keeps the one before.
func (r *reloader) load() {
	c, err := loadProxy(r.in)
	if r.files.Grew() {
		return
	}
	if err == nil {
		err = lostEnd(r.config, c)
	}
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
	if names := c.NeedRestart(r.config); len(names) > 0 {
		r.g.log.Warn("settings changed that only a restart puts in force", "settings", strings.Join(names, ", "))
	}
	r.publish(c)
	r.g.log.Info("reloaded", "rules", c.Policy.Len(), "from", c.Rules.Source)
	if c.Policy.Len() == 0 {
		r.g.log.Warn("there is no rule now: everything is denied", "from", c.Rules.Source)
	}
}

// lostEnd refuses rules that have lost the line which says that they are whole.
func lostEnd(before, now *config.Proxy) error {
	source, lost := now.Policy.LostEnd(before.Policy)
	if !lost {
		return nil
	}
	return fmt.Errorf(`%s: the rules in force end in the line "#@ end", and these do not: they may be cut off; add the line, or restart to do without it`, cmp.Or(source, now.Rules.Source))
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
	c := r.config
	r.g.server.SetGeneration(policy.New(policy.Tenant{
		Rules:     c.Policy.WithGuard(acl.Guard{Mode: c.Guard, Own: r.own}),
		Sources:   policy.NewSources(c.Sources),
		Limits:    policy.Limits{ConnsPerClient: c.MaxConnsPerClient},
		HideRules: c.HideRules,
		Contact:   c.Contact,
	}))
}

// maxShown bounds the rules on the status page.
const maxShown = 1000

// status fills in what the reloader knows.
func (r *reloader) status(st *admin.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Source = policy.NewSources(r.config.Sources).String()
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
