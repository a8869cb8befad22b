package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
)

// Record is what one line of the access log says of a request or tunnel. Bytes
// are those of bodies and tunnels, without heads. A duration is counted from
// Start, but for Resolve and Connect, which are spans; 0 means that it did not
// come to that.
type Record struct {
	// Small fields stand together: a tunnel that is open keeps its Record.
	Mode   metrics.Mode
	Judged bool
	Tunnel bool
	silent bool  // no request: neither logged nor counted
	Minor  uint8 // of the client's HTTP version
	Status int

	Start     time.Time
	ID        uint64
	Client    netip.AddrPort
	Decision  acl.Decision
	Addr      netip.AddrPort // dialled
	Source    netip.Addr     // that the server saw
	Error     string         // RFC 9209 class, "" for none
	Received  int64          // from the client
	Sent      int64          // to the client
	Resolve   time.Duration
	Connect   time.Duration
	FirstByte time.Duration // until the first byte of the answer was sent
	Total     time.Duration

	text                                            []byte
	method, target, userAgent, referer, contentType span
}

// span is a part of Record.text.
type span struct{ from, to uint32 }

func (r *Record) get(s span) []byte { return r.text[s.from:s.to] }

// Format appends one line, with its line end, for r to b.
type Format func(b []byte, r *Record) []byte

// Formats of the access log, by the names that --access-log-format takes.
var Formats = map[string]Format{"json": appendJSON, "squid": appendSquid, "combined": appendCombined}

// Sizes of the access log's buffer: from logKick on it is written at once, at
// logFull lines are dropped, since a log that is not read must not stop requests.
const (
	logKick = 64 << 10
	logFull = 16 << 20
)

// logDelay is how long a line may wait for others to be written with it.
const logDelay = 100 * time.Millisecond

// AccessLog writes records to a file, from a goroutine of its own. Its methods
// may be called concurrently.
type AccessLog struct {
	format  Format
	dropped func()
	failed  func(error)

	mu      sync.Mutex
	buf     []byte
	closed  bool
	kick    chan struct{}
	full    chan struct{}
	done    chan struct{}
	writeMu sync.Mutex // held while out is written to or replaced
	out     io.Writer
}

// NewAccessLog returns a log that writes to out, until Close, which does not
// close out. dropped is called for each line that was lost because out could not
// keep up, failed for each error of out.
func NewAccessLog(out io.Writer, format Format, dropped func(), failed func(error)) *AccessLog {
	l := &AccessLog{format: format, dropped: dropped, failed: failed, out: out,
		kick: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Write adds a line for r. It does not wait for the file.
func (l *AccessLog) Write(r *Record) {
	l.Append(func(b []byte) []byte { return l.format(b, r) })
}

// Append adds the line that line appends to what it is given, with its line end.
// It does not wait for the file.
func (l *AccessLog) Append(line func(b []byte) []byte) {
	l.mu.Lock()
	if l.closed || len(l.buf) >= logFull {
		l.mu.Unlock()
		l.dropped()
		return
	}
	l.buf = line(l.buf)
	n := len(l.buf)
	l.mu.Unlock()
	signal(l.kick)
	if n >= logKick {
		signal(l.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// SetOutput writes from now on to out: for log rotation. It returns the writer
// before, which the caller may close.
func (l *AccessLog) SetOutput(out io.Writer) io.Writer {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	old := l.out
	l.out = out
	return old
}

// Close writes what is buffered and ends the log. Later lines are dropped.
func (l *AccessLog) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	close(l.kick)
	<-l.done
}

func (l *AccessLog) run() {
	defer close(l.done)
	timer := time.NewTimer(logDelay)
	defer timer.Stop()
	spare := []byte(nil)
	for open := true; open; {
		_, open = <-l.kick
		if open {
			timer.Reset(logDelay)
			select {
			case <-timer.C:
			case <-l.full:
			}
		}
		l.mu.Lock()
		batch := l.buf
		l.buf = spare[:0]
		l.mu.Unlock()
		l.flush(batch)
		spare = batch
		if cap(spare) > 4*logKick {
			spare = nil
		}
	}
}

func (l *AccessLog) flush(b []byte) {
	if len(b) == 0 {
		return
	}
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	if _, err := l.out.Write(b); err != nil {
		l.failed(fmt.Errorf("write the access log: %w", err))
	}
}
