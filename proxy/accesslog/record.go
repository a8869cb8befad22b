// Package accesslog is the access log of every front door: what a line says, of a request
// or of a connection, how it is written down, and the log that it is written to.
package accesslog

import (
	"bytes"
	"net/netip"
	"time"
	"unsafe"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Common is what the records of all front doors have. A duration of 0 means that it did
// not come to that.
type Common struct {
	Start    time.Time
	Client   netip.AddrPort
	Addr     netip.AddrPort // of the server, connected to; invalid: none
	Source   netip.Addr     // that the server saw, or the parent
	Parent   *policy.Parent // proxy by which it went, or was to go; nil: none
	Received int64          // bytes from the client
	Sent     int64          // bytes to the client
	Connect  time.Duration
	Total    time.Duration // from Start to the end
	Error    string        // "" for none
	// Policy is what it was admitted by last, or refused; nil: by nothing.
	Policy *policy.Name
	// Revoked is why it was ended by what came in force meanwhile; nil: it was not.
	Revoked *policy.Revocation
}

// Request is what one line says of a request to the HTTP front door, or of the tunnel that
// it has become. Bytes are those of bodies and tunnels, without heads; Error is a class of
// RFC 9209.
type Request struct {
	Common
	// Small fields stand together: a tunnel that is open keeps its record.
	Mode      metrics.Mode
	Judged    bool
	Tunnel    bool
	Base      string        // in front of a target that names its path alone
	HideQuery bool          // the line has the target without its query, and nothing of other fields
	Silent    bool          // no request: neither logged nor counted
	Minor     uint8         // of the client's HTTP version
	Status    int           // of the answer; 502 too when the server broke it off after its head was sent
	Check     metrics.Check // of the tunnel's first bytes

	Tenant string // "" where there are none
	Who    policy.Who

	ID       uint64
	Decision acl.Decision
	// Inspected says that Request has decided what the request may do where it may go.
	Inspected bool
	Request   request.Decision
	Shadow    policy.Shadowed
	Details   string // what was wrong with the request's head, or with what came first through its tunnel; "" for nothing
	Resolve   time.Duration
	FirstByte time.Duration // from Start until the first byte of the answer was sent

	Text                                            []byte // room for what Keep copies; it may be used again
	method, target, userAgent, referer, contentType span
	source, rule                                    span // of Decision, by KeepDecision
}

// span is a part of Request.Text.
type span struct{ from, to uint32 }

// Denied reports whether the policy denied the request. It did not when the verdict was
// to depend on addresses that the resolver failed to give: an allowed request that failed.
func (r *Request) Denied() bool {
	return r.Judged && (r.Decision.Verdict == acl.Deny || r.Inspected && r.Request.Verdict == acl.Deny)
}

// Keep copies what the line says of the heads, which may then be used for something else.
// Later calls do nothing, nor does one for a request of which not even the method was read.
func (r *Request) Keep(req *http1.Request, resp *http1.Response) {
	if len(r.Text) > 0 || len(req.Method) == 0 {
		return
	}
	keep := func(b []byte) (s span) {
		s.from = uint32(len(r.Text))
		r.Text = append(r.Text, b...)
		s.to = uint32(len(r.Text))
		return s
	}
	target := req.Target
	if r.HideQuery {
		target, _, _ = bytes.Cut(target, []byte("?"))
	}
	r.method = keep(req.Method)
	r.target = span{uint32(len(r.Text)), 0}
	r.Text = append(append(r.Text, r.Base...), target...)
	r.target.to = uint32(len(r.Text))
	if !r.HideQuery {
		r.userAgent, r.referer = keep(req.Get(http1.UserAgent)), keep(req.Get(http1.Referer))
	}
	r.contentType = keep(resp.Get(http1.ContentType))
	r.Minor = uint8(req.Minor)
}

// KeepDecision copies the texts of Decision, so that a record which waits for the end of a
// tunnel does not keep all the rules.
func (r *Request) KeepDecision() {
	d := &r.Decision
	at := uint32(len(r.Text))
	r.Text = append(append(r.Text, d.Source...), d.Text...)
	r.source = span{at, at + uint32(len(d.Source))}
	r.rule = span{r.source.to, uint32(len(r.Text))}
	d.Source, d.Text = "", ""
}

// decision is Decision with its texts. They are good until the record is used again.
func (r *Request) decision() acl.Decision {
	d := r.Decision
	if s := r.get(r.source); len(s) > 0 {
		d.Source = unsafe.String(&s[0], len(s))
	}
	if s := r.get(r.rule); len(s) > 0 {
		d.Text = unsafe.String(&s[0], len(s))
	}
	return d
}

// Target is the request's target as the client wrote it, once Keep was called.
func (r *Request) Target() []byte { return r.get(r.target) }

func (r *Request) get(s span) []byte { return r.Text[s.from:s.to] }

// Connection is what one line says of a connection to the TCP front door. Client is as the
// PROXY header said, if one was read; Connect is the attempt that succeeded; Error says more
// about a refusal or an end.
type Connection struct {
	Common
	Listener    string         // its label
	Name        string         // of the listener, "" for none
	Peer        netip.AddrPort // who connected: the client, or a load balancer
	ServerName  string         // of TLS, when the port looks at it
	Destination string         // HOST:PORT as configured; "" when none was reached
	Attempts    int            // to connect
	End         string         // "closed", "reset", "idle", "shutdown" or "refused"
	Refused     string         // cause, as the metrics name it
}
