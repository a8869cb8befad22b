// Package linelog writes lines to what may stall, fill up or go away: a pipe whose
// reader sleeps, a full disk, a FIFO that nobody has opened. Whoever has a line never
// waits for it: a goroutine of the log's own writes, and what cannot be written is lost
// and counted.
package linelog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// Sizes of the buffer: from kickAt on it is written at once, at Options.Room lines are
// lost, since a log that is not read must not stop what it tells of.
const (
	kickAt      = 64 << 10
	defaultRoom = 16 << 20
)

const (
	delay      = 100 * time.Millisecond // how long a line may wait for others to be written with it
	retryEvery = time.Second            // how often a FIFO without a reader is opened again
)

var errStalled = errors.New("it is not taken as fast as lines come, or not at all: lines are lost")

// Options is what a Log tells. Its functions may be nil; they are called concurrently,
// and must not block.
type Options struct {
	// Lost is told of lines that were lost.
	Lost func(lines int)
	// Failed is told why lines are lost: once, until a write succeeds again.
	Failed func(error)
	// Restored is told that writing succeeds again, and how many lines were lost meanwhile.
	Restored func(lost int)
	// Room is how many bytes may wait, about; 0: 16 MiB.
	Room int
	// Prompt has each line written at once. Else one waits for others up to 100 ms, since
	// a system call for each would cost more than all else about it.
	Prompt bool
}

// Log is a log of lines. Its methods may be called concurrently, and none but Close
// waits. A nil Log is none: what it is given is gone.
type Log struct {
	o    Options
	path string // to open again; "": out was given
	kick chan struct{}
	full chan struct{}
	end  chan struct{}
	done chan struct{}

	mu       sync.Mutex
	buf      []byte
	flying   []byte // what is being written
	closed   bool
	anew     bool      // the file is to be opened again
	troubled bool      // Failed was told, Restored was not
	lost     int       // since then
	out      io.Writer // nil: a FIFO that waits for a reader. Replaced by run alone.

	torn bool // the last that was written is half a line; run's alone
}

// New returns a log that writes to out, which it does not close.
func New(out io.Writer, o Options) *Log { return begin(&Log{o: o, out: out}) }

// Open returns a log that appends to the file at path, which is made if there is none. A
// FIFO without a reader is no error: lines wait for one.
func Open(path string, o Options) (*Log, error) {
	l := &Log{o: o, path: path}
	if err := l.open(); err != nil {
		return nil, err
	}
	return begin(l), nil
}

func begin(l *Log) *Log {
	if l.o.Room == 0 {
		l.o.Room = defaultRoom
	}
	l.kick, l.full = make(chan struct{}, 1), make(chan struct{}, 1)
	l.end, l.done = make(chan struct{}), make(chan struct{})
	go l.run()
	return l
}

// Write adds p, which is one line or several, each with its end. It never fails: it is
// for writers of whole lines, like those of log/slog.
func (l *Log) Write(p []byte) (int, error) {
	l.Append(func(b []byte) []byte { return append(b, p...) })
	return len(p), nil
}

// Append adds the line that line appends to what it is given, with its line end.
func (l *Log) Append(line func(b []byte) []byte) {
	if l == nil {
		return
	}
	n, closed := l.take(line)
	if n < 0 {
		l.lose(1, errStalled, !closed)
		return
	}
	signal(l.kick)
	if n >= kickAt || l.o.Prompt {
		signal(l.full)
	}
}

// take adds the line to what is to be written, and returns how much that is; -1 when there
// is no room for it.
func (l *Log) take(line func(b []byte) []byte) (n int, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock() // whatever line does
	if l.closed || len(l.buf) >= l.o.Room {
		return -1, l.closed
	}
	l.buf = line(l.buf)
	return len(l.buf), false
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Reopen makes the file anew, as logrotate and its like expect after SIGHUP. When that
// fails the old one stays, and Failed is told. What New made writes on as before.
func (l *Log) Reopen() {
	if l == nil || l.path == "" {
		return
	}
	l.mu.Lock()
	l.anew = true
	l.mu.Unlock()
	signal(l.kick)
}

// Close writes what is there and ends the log, within the limit: what has not been
// written by then is lost. It returns how many lines that were. Later lines are lost too.
func (l *Log) Close(limit time.Duration) (lost int) {
	if l == nil || !l.shut(limit) {
		return 0
	}
	close(l.end)
	select {
	case <-l.done:
	case <-time.After(limit + limit/4): // the deadline above comes first where there is one
	}
	l.mu.Lock()
	lost = bytes.Count(l.flying, newline) + bytes.Count(l.buf, newline)
	l.flying, l.buf = nil, nil
	l.mu.Unlock()
	if lost > 0 && l.o.Lost != nil {
		l.o.Lost(lost)
	}
	return lost
}

// shut has no more lines taken, and those that there are written within the limit. It fails
// when that was done.
func (l *Log) shut(limit time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.closed = true
	if f, ok := l.out.(*os.File); ok {
		_ = f.SetWriteDeadline(time.Now().Add(limit)) // only a FIFO knows that
	}
	return true
}

var newline = []byte{'\n'}

// lose counts n lines that were lost because of err, which is told where it is news.
func (l *Log) lose(n int, err error, tell bool) {
	l.mu.Lock()
	tell = tell && !l.troubled
	l.troubled = l.troubled || tell
	l.lost += n
	l.mu.Unlock()
	if l.o.Lost != nil {
		l.o.Lost(n)
	}
	if tell && l.o.Failed != nil {
		l.o.Failed(err)
	}
}

// restored says that a write has succeeded.
func (l *Log) restored() {
	l.mu.Lock()
	was, lost := l.troubled, l.lost
	l.troubled, l.lost = false, 0
	l.mu.Unlock()
	if was && l.o.Restored != nil {
		l.o.Restored(lost)
	}
}

// open opens the file. It leaves out alone when that fails, and takes it away when the
// file is a FIFO without a reader.
func (l *Log) open() error {
	// Without O_NONBLOCK a FIFO would not open before somebody reads it.
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0o640)
	switch {
	case errors.Is(err, syscall.ENXIO) && isFIFO(l.path):
		l.replace(nil)
		return nil
	case err != nil:
		return err
	}
	l.replace(f)
	return nil
}

func isFIFO(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// replace puts f in the place of the file before, and closes that.
func (l *Log) replace(f *os.File) {
	l.mu.Lock()
	old, _ := l.out.(*os.File)
	if l.out = nil; f != nil {
		l.out = f
	}
	l.mu.Unlock()
	if old == nil {
		return
	}
	l.torn = l.torn && f != nil && same(old, f)
	old.Close()
}

func same(a, b *os.File) bool {
	ai, err := a.Stat()
	bi, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(ai, bi)
}

func (l *Log) run() {
	defer close(l.done)
	wait, retry := time.NewTimer(delay), time.NewTimer(retryEvery)
	defer wait.Stop()
	defer retry.Stop()
	var spare []byte
	for open := true; open; {
		select {
		case <-l.kick:
			wait.Reset(delay)
			select {
			case <-wait.C:
			case <-l.full:
			case <-l.end:
				open = false
			}
		case <-retry.C:
		case <-l.end:
			open = false
		}
		if !l.prepare() {
			retry.Reset(retryEvery)
			continue
		}
		l.mu.Lock()
		batch := l.buf
		l.buf, l.flying = spare[:0], batch
		l.mu.Unlock()
		l.flush(batch)
		if spare = batch; cap(spare) > 4*kickAt {
			spare = nil
		}
	}
	if l.path != "" {
		l.replace(nil)
	}
}

// prepare opens the file again where that is due, and reports whether it is open.
func (l *Log) prepare() bool {
	l.mu.Lock()
	anew, waits := l.anew, l.out == nil
	l.anew = false
	l.mu.Unlock()
	if anew || waits {
		if err := l.open(); err != nil && l.o.Failed != nil {
			l.o.Failed(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out != nil
}

// flush writes b. A line that was written in part, to a disk that is full, gets an end
// before the next one begins.
func (l *Log) flush(b []byte) {
	lines := bytes.Count(b, newline)
	if l.torn && len(b) > 0 {
		b = append([]byte{'\n'}, b...)
	}
	var n int
	var err error
	if len(b) > 0 {
		n, err = l.out.Write(b)
	}
	l.mu.Lock()
	l.flying = nil
	l.mu.Unlock()
	if err == nil {
		if len(b) > 0 {
			l.torn = false
			l.restored()
		}
		return
	}
	if n > 0 {
		lines = bytes.Count(b[n:], newline)
		l.torn = b[n-1] != '\n'
	}
	l.lose(lines, fmt.Errorf("%w: lines are lost", err), true)
	if l.path != "" && errors.Is(err, syscall.EPIPE) {
		// The reader of the FIFO has gone, and the half line with it.
		l.torn = false
		l.replace(nil)
	}
}
