package accesslog

import "github.com/sluiceproxy/sluice/internal/linelog"

// Format appends one line, with its line end, for r to b.
type Format[R Request | Connection] func(b []byte, r *R) []byte

// Formats are those of requests, by the names that --access-log-format takes.
var Formats = map[string]Format[Request]{"json": JSON, "squid": Squid, "combined": Combined}

// Log writes the records of a front door as lines. Several may write to the same lines. Its
// methods may be called concurrently; a nil Log is none.
type Log[R Request | Connection] struct {
	lines  *linelog.Log
	format Format[R]
}

// New returns a log that writes to lines, which is the caller's to close.
func New[R Request | Connection](lines *linelog.Log, format Format[R]) *Log[R] {
	return &Log[R]{lines, format}
}

// Write adds a line for r, which it does not keep. It does not wait for the file.
func (l *Log[R]) Write(r *R) {
	if l == nil {
		return
	}
	l.lines.Append(func(b []byte) []byte { return l.format(b, r) })
}
