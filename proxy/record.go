package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// progress is what has become of a request so far. With the ticket and the heads it is all
// that its record is made of.
type progress struct {
	start   time.Time
	id      uint64
	mode    metrics.Mode
	tunnel  bool
	silent  bool               // it is no request, or somebody else's: neither logged nor counted
	status  int                // of the answer
	class   string             // of what went wrong, "" for nothing
	details string             // of what was wrong with its head
	revoked *policy.Revocation // why it may not go on
	asked   *policy.Asked      // by which request rules have judged it; nil: none have

	addr   netip.AddrPort // of the server; invalid: none
	source netip.Addr     // that the server saw, or the parent
	parent *policy.Parent // by which it went, or was to go; nil: none

	connect, firstByte time.Duration // that it took; 0: it did not come to that
	received, sent     int64         // bytes of bodies and of a tunnel
}

// keepHeads copies what the record says of the heads out of the buffers that they are in,
// which is therefore due before those are used for something else; once a head was copied it
// stays.
func (x *exchange) keepHeads() {
	if x.c.srv.Access != nil {
		if in := x.c.inside; in != nil && bytes.HasPrefix(x.req.Target, []byte("/")) { // another form is refused, and shown as it is
			x.rec.Base = "https://" + strings.TrimSuffix(in.target.String(), ":443")
		}
		x.rec.HideQuery = (x.c.inside != nil || x.ticket.Inspected != nil) && !x.c.srv.LogQuery
		x.rec.Keep(&x.req, &x.resp)
	}
}

// fillRecord makes the record of the ticket and the exchange. Nobody else writes to it.
func (x *exchange) fillRecord() *accesslog.Request {
	x.keepHeads()
	d, r := &x.did, &x.rec
	r.Common = accesslog.Common{Start: d.start, Client: x.c.from(), Addr: d.addr, Source: d.source, Parent: d.parent,
		Received: d.received, Sent: d.sent, Connect: d.connect, Error: d.class, Policy: x.gen.Name(), Revoked: x.revoked()}
	if r.Revoked != nil {
		r.Error = answer.ClassDenied
	}
	r.ID, r.Mode, r.Tunnel, r.Silent, r.Status, r.Details, r.FirstByte = d.id, d.mode, d.tunnel, d.silent, d.status, d.details, d.firstByte
	if x.judged {
		r.Judged, r.Decision, r.Resolve, r.Shadow = true, x.ticket.Decision, x.ticket.Resolve, x.ticket.Shadow
		r.Inspected, r.Request = x.ticket.Asked, x.ticket.Request
	}
	r.Who = x.wanted.Who
	if t := x.ticket.Tenant; t != nil {
		r.Tenant = t.Name
	}
	return r
}

// book has the record say how the exchange has ended, and counts it.
func (x *exchange) book() {
	r := x.fillRecord()
	if t := x.ticket.Tenant; t != nil && r.Shadow.Differs && !r.Silent {
		t.Shadow.Count(r.Shadow)
	}
	x.c.srv.book(r, x.usage(), x.did.received, x.did.sent)
}

// usage is what x counts for.
func (x *exchange) usage() *policy.Usage {
	if t := x.ticket.Tenant; t != nil {
		return t.Usage
	}
	return nil
}

// tunnelEnded takes down what a tunnel that a goroutine has relayed carried, and how it ended.
func (x *exchange) tunnelEnded(res tunnel.Result) {
	x.did.received += res.Up
	x.did.sent += res.Down
	x.did.class = cmp.Or(endClass(res.Err), x.did.class)
}

// book has the record say how the tunnel has ended, and counts it.
func (o *openTunnel) book(res tunnel.Result) {
	o.rec.Received += res.Up
	o.rec.Sent += res.Down
	o.rec.Error = cmp.Or(endClass(res.Err), o.rec.Error)
	if o.Why() == door.Revoked {
		o.rec.Error, o.rec.Revoked = answer.ClassDenied, cmp.Or(o.Revocation(), o.rec.Revoked)
	}
	o.srv.book(&o.rec, o.usage, 0, 0)
}

// endClass is the class of the end of a tunnel.
func endClass(err error) string {
	switch {
	case err == nil:
		return ""
	case err == tunnel.ErrAbandoned:
		return answer.ClassInternal
	case err == tunnel.ErrRefused:
		return answer.ClassDenied
	case errors.Is(err, os.ErrDeadlineExceeded):
		return answer.ClassIdle
	}
	return answer.ClassTerminated
}

// book writes the log line and counts, for its tenant too unless u is nil, with the bytes that Metrics.Moved was not told of. The
// request is over.
func (s *Server) book(r *accesslog.Request, u *policy.Usage, received, sent int64) {
	if r.Silent {
		return
	}
	r.Total = time.Since(r.Start)
	took := r.Total
	if r.Tunnel {
		took = r.FirstByte
	}
	reason := metrics.ReasonUnjudged
	if r.Judged {
		reason = metrics.ReasonOf(r.Decision)
		if r.Inspected && r.Decision.Verdict != acl.Deny {
			reason = metrics.ReasonRequest
		}
	}
	u.Ended(r.Judged && !r.Denied())
	u.Moved(received, sent)
	s.Metrics.Ended(r.Mode, r.Judged && !r.Denied(), reason, r.Error, received, sent, took)
	s.Access.Write(r)
}
