package reload

import (
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be quiet before they are looked at: an editor, and the
// kubelet, make several steps of one change.
const settle = 50 * time.Millisecond

// watcher is told by the kernel when something happens beside files: a ConfigMap changes by
// a symbolic link there.
type watcher struct {
	notify *fsnotify.Watcher // nil: there is none
	events <-chan fsnotify.Event
	log    *slog.Logger
	every  time.Duration
}

func (r *Reloader[C]) watch() *watcher {
	w := &watcher{log: r.Log, every: r.Every}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("cannot watch files, they are compared every "+w.every.String()+" instead", "error", err)
		return w
	}
	w.notify, w.events = notify, notify.Events
	w.follow(r.files.paths())
	go func() {
		for range notify.Errors { // an overflow, say: the comparison finds what was missed
		}
	}()
	return w
}

// follow watches the folders of the files that are not watched yet.
func (w *watcher) follow(paths []string) {
	if w.notify == nil {
		return
	}
	for _, p := range paths {
		if err := w.notify.Add(filepath.Dir(p)); err != nil {
			w.log.Warn("cannot watch a folder, its files are compared every "+w.every.String()+" instead", "file", p, "error", err)
		}
	}
}

func (w *watcher) close() {
	if w.notify != nil {
		w.notify.Close()
	}
}

// concerns reports whether an event in a watched folder may change what the files say. A
// name that appears or goes may, since there are symbolic links; what is written to
// another file may not: it may be the access log.
func (r *Reloader[C]) concerns(e fsnotify.Event) bool {
	if e.Op&^(fsnotify.Write|fsnotify.Chmod) != 0 {
		return true
	}
	return slices.ContainsFunc(r.files.paths(), func(p string) bool { return filepath.Clean(p) == filepath.Clean(e.Name) })
}
