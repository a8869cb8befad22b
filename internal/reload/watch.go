package reload

import (
	"path/filepath"
	"slices"
	"time"
)

// settle is how long files must be quiet before they are looked at: an editor, and the
// kubelet, make several steps of one change.
const settle = 50 * time.Millisecond

// Notifier tells what happens in folders: a ConfigMap changes by a symbolic link beside its
// files.
type Notifier struct {
	Events <-chan Event
	Add    func(folder string) error // as often as one likes
	Close  func()
}

// Event is something that has happened in a folder.
type Event struct {
	Path    string
	Written bool // the file was there, and is; else a name has come or gone
}

// watch has the folders of the files watched. The Notifier is never nil.
func (r *Reloader[C]) watch() *Notifier {
	none := &Notifier{Add: func(string) error { return nil }, Close: func() {}}
	if r.Notify == nil {
		return none
	}
	n, err := r.Notify()
	if err != nil {
		r.Log.Warn("cannot watch files, they are compared every "+r.Every.String()+" instead", "error", err)
		return none
	}
	r.watchFolders(n)
	return n
}

// watchFolders watches those that are not watched yet.
func (r *Reloader[C]) watchFolders(n *Notifier) {
	for _, p := range r.files.paths() {
		if err := n.Add(filepath.Dir(p)); err != nil {
			r.Log.Warn("cannot watch a folder, its files are compared every "+r.Every.String()+" instead", "file", p, "error", err)
		}
	}
}

// concerns reports whether an event may change what the files say. A name that appears or
// goes may, since there are symbolic links; what is written to another file may not: it may
// be the access log.
func (r *Reloader[C]) concerns(e Event) bool {
	return !e.Written || slices.ContainsFunc(r.files.paths(), func(p string) bool { return filepath.Clean(p) == filepath.Clean(e.Path) })
}
