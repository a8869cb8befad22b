// Package reload notices that the files of which a configuration is made say something
// else, and has the new configuration put in force: whole, or not at all.
//
// What the files say is compared, not when they changed: the kernel's notice (inotify) only
// wakes the comparison, and every few seconds it happens anyway. What two looks have read alike
// is what the configuration is made of.
package reload

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Options are what a [Reloader] works with.
type Options[C any] struct {
	// Load makes a configuration whole, of files that it reads by ReadFile, or says all
	// that is wrong. Nothing comes in force by it.
	Load func() (C, error)
	// Publish puts now in force in the place of before, which is the zero C at the start,
	// or fails and has changed nothing.
	Publish func(before, now C) error
	// Watch are the files that the configuration in force is made of; nil: all that were
	// read.
	Watch func(C) []string
	// Tick is called every Every: what else a configuration goes by may have changed.
	Tick func()
	// Reloaded and Refused are told how a reload has ended. That it was refused is logged
	// already.
	Reloaded func(now C)
	Refused  func()
	// Every is how often files are compared whatever is notified, since not every file
	// system does that.
	Every time.Duration
	// Notify wakes the comparison at once; nil: nothing does.
	Notify func() (*Notifier, error)
	Log    *slog.Logger
	// Contain calls a step of the work and contains its panic; nil: a panic ends the
	// program. A reload that panics is refused.
	Contain func(step func())
}

// Reloader keeps a configuration in force that is made of files. One goroutine reads by it,
// then starts and runs it; Ask and State may be called by any.
type Reloader[C any] struct {
	Options[C]
	files follower
	asked chan struct{}

	again  *time.Timer // when to look
	armed  bool        // again runs
	moving int         // looks that found files moving, one behind the other

	mu    sync.Mutex
	state State[C]
}

// State is what is in force.
type State[C any] struct {
	Config C
	Loaded time.Time
	Err    error // why the last reload was refused; nil: it was not
}

// New returns a Reloader by which files can be read. Its Options are to be set before it is
// started.
func New[C any]() *Reloader[C] {
	return &Reloader[C]{asked: make(chan struct{}, 1)}
}

// ReadFile reads a file and follows it from then on. It is files.Read, but for that what is
// read is what was compared. Load alone may call it once the Reloader runs.
func (r *Reloader[C]) ReadFile(path string) ([]byte, error) { return r.files.read(path) }

// State is what is in force.
func (r *Reloader[C]) State() State[C] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Ask has the files read again, even if they say what they said.
func (r *Reloader[C]) Ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// Start puts the first configuration in force.
func (r *Reloader[C]) Start(c C) error {
	var none C
	if err := r.Publish(none, c); err != nil {
		return err
	}
	r.note(State[C]{Config: c, Loaded: time.Now()})
	r.files.done(r.Watch(c))
	return nil
}

// Run reloads when it is asked to, and when a file has changed and stands still again. It
// returns when ctx ends. The functions of the Options are called by it alone.
func (r *Reloader[C]) Run(ctx context.Context) {
	n := r.watch()
	defer n.Close()
	tick := time.NewTicker(r.Every)
	defer tick.Stop()
	r.again = time.NewTimer(settle)
	r.again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
			r.files.ask()
			r.lookIn(0)
		case e := <-n.Events:
			if r.concerns(e) {
				r.lookIn(settle)
			}
		case <-r.again.C:
			r.armed = false
			r.contain(func() { r.look(n) })
		case <-tick.C:
			r.contain(func() {
				if !r.files.pending() {
					r.look(n)
				}
				r.Tick()
			})
		}
	}
}

// restless is after how many looks in vain it is said that files do not stand still.
const restless = 20

// look reloads when the files have changed and stand still, or has them looked at again.
func (r *Reloader[C]) look(n *Notifier) {
	switch r.files.look() {
	case unchanged:
		r.moving = 0
		return
	case moving:
		if r.moving++; r.moving == restless {
			r.Log.Warn("files are written to all the time, and are not read before that ends", "files", r.files.paths())
		}
	case settled:
		r.moving = 0
		r.reload()
		r.watchFolders(n)
	}
	if r.files.pending() {
		r.lookIn(still)
	}
}

// reload makes a configuration and puts it in force, or keeps the one before.
func (r *Reloader[C]) reload() {
	s := r.State()
	before, grew := s.Config, false
	err := errors.New("a fault of the program, which the log has") // unless it comes to an end
	r.contain(func() {
		var now C
		if now, grew, err = r.next(before); err == nil && !grew {
			s = State[C]{Config: now, Loaded: time.Now()}
		}
	})
	if grew {
		return
	}
	s.Err = err
	r.note(s)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			r.Log.Error("reload refused, the configuration before stays in force", "problem", strings.TrimSpace(line))
		}
		r.Refused()
		r.files.done(nil) // all are followed that were read
		return
	}
	r.Reloaded(s.Config)
	r.files.done(r.Watch(s.Config))
}

// next makes a configuration and puts it in force. grew says that files came new, which may
// be half written: they are looked at once more before anything comes of them.
func (r *Reloader[C]) next(before C) (now C, grew bool, err error) {
	now, err = r.Load()
	if r.files.grew() {
		return now, true, nil
	}
	if err == nil {
		err = r.Publish(before, now)
	}
	return now, false, err
}

func (r *Reloader[C]) note(s State[C]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
}

func (r *Reloader[C]) contain(step func()) {
	if r.Contain == nil {
		step()
		return
	}
	r.Contain(step)
}

// lookIn has the files looked at soon, unless they are to be anyway: who writes all the
// time must not put that off for ever.
func (r *Reloader[C]) lookIn(d time.Duration) {
	if !r.armed {
		r.armed = true
		r.again.Reset(d)
	}
}
