package files

import (
	"crypto/sha256"
	"maps"
	"os"
	"slices"
	"time"
)

// Still is for how long files must stand still before a change of theirs counts.
const Still = 500 * time.Millisecond

// A Finding is what a look at files has found.
type Finding int

const (
	// Unchanged: they say what was made of them, or nobody can tell yet.
	Unchanged Finding = iota
	// Moving: they say something else, and may still be being written. Look again when
	// Still has passed.
	Moving
	// Settled: they say something else, twice the same. Read has it now.
	Settled
)

// A Follower finds out when what files say has changed for good: size and time have
// stood still between two looks, and both have read the same. It is for one goroutine at
// a time. The zero Follower knows no file; those that are read by it it follows.
type Follower struct {
	last   look // what was made of the files
	before look // another one, to be confirmed by the next; nil: none
	asked  bool // Ask was called
	grew   bool // Read has met a file that no look had seen
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
	if s.text, err = Read(path); err != nil {
		s.problem = err.Error()
	} else {
		s.sum = sha256.Sum256(s.text)
	}
	return s
}

// Read is [Read] as the last look found the file, or as it is now if no look has seen it.
func (f *Follower) Read(path string) ([]byte, error) {
	s, ok := f.last[path]
	if !ok {
		if f.last == nil {
			f.last = look{}
		}
		s = lookAt(path)
		f.last[path], f.grew = s, true
	}
	if s.text != nil {
		return s.text, nil
	}
	return Read(path) // for its error, or because the text is forgotten
}

// Ask has the next Look find something, even if nothing has changed.
func (f *Follower) Ask() { f.asked = true }

// Look looks at all files.
func (f *Follower) Look() Finding {
	now := make(look, len(f.last))
	for path := range f.last {
		now[path] = lookAt(path)
	}
	if !f.asked && now.same(f.last, false) {
		f.before = nil
		return Unchanged
	}
	if f.before == nil || !now.same(f.before, true) {
		for path, s := range now {
			s.text = nil
			now[path] = s
		}
		f.before = now
		return Moving
	}
	f.last, f.before, f.asked, f.grew = now, nil, false, false
	return Settled
}

// same reports whether the files say the same, and, if still, have not been written to.
func (l look) same(o look, still bool) bool {
	for path, s := range l {
		t, ok := o[path]
		if !ok || s.sum != t.sum || s.problem != t.problem ||
			still && (s.size != t.size || !s.modified.Equal(t.modified)) {
			return false
		}
	}
	return len(l) == len(o)
}

// Grew reports whether what was read since Settled names files that were not followed
// yet, and may be half written. They are from now on: nothing should be made of what was
// read, but Look be called when Still has passed.
func (f *Follower) Grew() bool {
	if !f.grew {
		return false
	}
	f.grew, f.asked, f.before = false, true, f.last
	return true
}

// Pending reports whether a look is to follow when Still has passed.
func (f *Follower) Pending() bool { return f.before != nil || f.asked }

// Paths are the files that are followed.
func (f *Follower) Paths() []string { return slices.Sorted(maps.Keys(f.last)) }

// Done lets the texts go, which have served. paths are what is followed from now on; nil:
// as before.
func (f *Follower) Done(paths []string) {
	f.grew = false
	for path, s := range f.last {
		if s.text = nil; paths != nil && !slices.Contains(paths, path) {
			delete(f.last, path)
			continue
		}
		f.last[path] = s
	}
}
