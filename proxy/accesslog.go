package proxy

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/linelog"
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
	Status int   // of the answer; 502 too when the server broke it off after its head was sent

	Start     time.Time
	ID        uint64
	Client    netip.AddrPort
	Decision  acl.Decision
	Addr      netip.AddrPort // dialled
	Source    netip.Addr     // that the server saw
	Error     string         // RFC 9209 class, "" for none
	Details   string         // what was wrong with the request's head, "" for nothing
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

// denied reports whether the policy denied the request. It did not when the verdict was
// to depend on addresses that the resolver failed to give: an allowed request that failed.
func (r *Record) denied() bool { return r.Judged && r.Decision.Verdict == acl.Deny }

func (r *Record) get(s span) []byte { return r.text[s.from:s.to] }

// Format appends one line, with its line end, for r to b.
type Format func(b []byte, r *Record) []byte

// Formats of the access log, by the names that --access-log-format takes.
var Formats = map[string]Format{"json": appendJSON, "squid": appendSquid, "combined": appendCombined}

// AccessLog writes records as lines. Its methods may be called concurrently.
type AccessLog struct {
	lines  *linelog.Log
	format Format
}

// NewAccessLog returns a log that writes to lines, which is the caller's to close.
func NewAccessLog(lines *linelog.Log, format Format) *AccessLog { return &AccessLog{lines, format} }

// Write adds a line for r. It does not wait for the file.
func (l *AccessLog) Write(r *Record) {
	l.lines.Append(func(b []byte) []byte { return l.format(b, r) })
}
