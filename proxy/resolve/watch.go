package resolve

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/internal/files"
)

// watchEvery is how often at most a file is looked at for a change.
const watchEvery = 3 * time.Second

// watched is a file's content in its parsed form, read again when the file's
// time or size changes. Reading the value takes no lock.
type watched[T any] struct {
	path  string
	parse func(text []byte) (T, error) // of nil for a file that does not exist
	value atomic.Pointer[T]
	due   atomicDuration // the clock at which to look again

	mu   sync.Mutex // one looks, the others go on with what there is
	seen stamp
}

type stamp struct {
	exists  bool
	changed time.Time
	size    int64
}

// load reads the file for the first time.
func (w *watched[T]) load(now time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due.Store(now + watchEvery)
	return w.reload()
}

// get is the current value. What can't be read or parsed leaves the value that was.
func (w *watched[T]) get(now time.Duration) *T {
	if now >= w.due.Load() {
		w.look(now)
	}
	return w.value.Load()
}

// look reads the file again, unless somebody does.
func (w *watched[T]) look(now time.Duration) {
	if !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	w.due.Store(now + watchEvery)
	_ = w.reload()
}

func (w *watched[T]) reload() error {
	var now stamp
	info, err := os.Stat(w.path)
	switch {
	case err == nil:
		now = stamp{exists: true, changed: info.ModTime(), size: info.Size()}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if w.value.Load() != nil && now == w.seen {
		return nil
	}
	var text []byte
	if now.exists {
		if text, err = files.Read(w.path); err != nil {
			return err
		}
	}
	value, err := w.parse(text)
	if err != nil {
		return err
	}
	w.seen = now
	w.value.Store(&value)
	return nil
}
