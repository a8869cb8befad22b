package reload

import (
	"crypto/sha256"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/internal/files"
)

// still is for how long files must stand still before a change of theirs counts.
const still = 500 * time.Millisecond

// A finding is what a look at files has found.
type finding int

const (
	// unchanged: they say what was made of them, or nobody can tell yet.
	unchanged finding = iota
	// moving: they say something else, and may still be being written. Look again when
	// still has passed.
	moving
	// settled: they say something else, twice the same. read has it now.
	settled
)

// A follower finds out when what files say has changed for good: size and time have
// stood still between two looks, and both have read the same. It is for one goroutine at
// a time. The zero follower knows no file; those that are read by it it follows.
type follower struct {
	last   look // what was made of the files
	before look // another one, to be confirmed by the next; nil: none
	asked  bool // ask was called
	fresh  bool // read has met a file that no look had seen
}

// look is what each file said.
type look map[string]state

// state tells apart what a file says. One that cannot be read is not an empty one.
type state struct {
	sum      [sha256.Size]byte
	problem  string // why it cannot be read
	size     int64
	modified time.Time
	text     []byte // nil once it is forgotten
}

func lookAt(path string) state {
	var s state
	if info, err := os.Stat(path); err == nil {
		s.size, s.modified = info.Size(), info.ModTime()
	}
	var err error
	if s.text, err = files.Read(path); err != nil {
		s.problem = err.Error()
	} else {
		s.sum = sha256.Sum256(s.text)
	}
	return s
}

// read is files.Read as the last look found the file, or as it is now if no look has seen it.
func (f *follower) read(path string) ([]byte, error) {
	s, ok := f.last[path]
	if !ok {
		if f.last == nil {
			f.last = look{}
		}
		s = lookAt(path)
		f.last[path], f.fresh = s, true
	}
	if s.text != nil {
		return s.text, nil
	}
	return files.Read(path) // for its error, or because the text is forgotten
}

// ask has the next look find something, even if nothing has changed.
func (f *follower) ask() { f.asked = true }

// look looks at all files.
func (f *follower) look() finding {
	now := make(look, len(f.last))
	for path := range f.last {
		now[path] = lookAt(path)
	}
	if !f.asked && now.same(f.last, false) {
		f.before = nil
		return unchanged
	}
	if f.before == nil || !now.same(f.before, true) {
		for path, s := range now {
			s.text = nil
			now[path] = s
		}
		f.before = now
		return moving
	}
	f.last, f.before, f.asked, f.fresh = now, nil, false, false
	return settled
}

// same reports whether the files say the same, and, if unwritten, have not been written to.
func (l look) same(o look, unwritten bool) bool {
	for path, s := range l {
		t, ok := o[path]
		if !ok || s.sum != t.sum || s.problem != t.problem ||
			unwritten && (s.size != t.size || !s.modified.Equal(t.modified)) {
			return false
		}
	}
	return len(l) == len(o)
}

// grew reports whether what was read since settled names files that were not followed
// yet, and may be half written. They are from now on: nothing should be made of what was
// read, but look be called when still has passed.
func (f *follower) grew() bool {
	if !f.fresh {
		return false
	}
	f.fresh, f.asked, f.before = false, true, f.last
	return true
}

// pending reports whether a look is to follow when still has passed.
func (f *follower) pending() bool { return f.before != nil || f.asked }

// paths are the files that are followed.
func (f *follower) paths() []string { return slices.Sorted(maps.Keys(f.last)) }

// done lets the texts go, which have served. paths are what is followed from now on; nil:
// as before.
func (f *follower) done(paths []string) {
	f.fresh = false
	for path, s := range f.last {
		if s.text = nil; paths != nil && !slices.Contains(paths, path) {
			delete(f.last, path)
			continue
		}
		f.last[path] = s
	}
}
