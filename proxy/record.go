package proxy

import (
	"errors"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// fillRecord takes into the record what it says of verdict, request and answer. The heads
// are copied out of the buffers that they are in, which is therefore due before those are
// used for something else; once a head was copied it stays.
func (x *exchange) fillRecord() {
	r := &x.rec
	if x.judged {
		r.Judged, r.Decision, r.Resolve = true, x.ticket.Decision, x.ticket.Resolve
	}
	if t := x.ticket.Tenant; t != nil {
		r.Tenant = t.Name
	}
	if x.c.srv.Access != nil {
		r.Keep(&x.req, &x.resp)
	}
}

// usage is what x counts for.
func (x *exchange) usage() *policy.Usage {
	if t := x.ticket.Tenant; t != nil {
		return t.Usage
	}
	return nil
}

// tunnelEnded adds to the record what a tunnel carried and how it ended.
func tunnelEnded(r *accesslog.Request, res tunnel.Result) {
	r.Received += res.Up
	r.Sent += res.Down
	switch {
	case res.Err == nil:
	case res.Err == tunnel.ErrAbandoned:
		r.Error = answer.ClassInternal
	case errors.Is(res.Err, os.ErrDeadlineExceeded):
		r.Error = answer.ClassIdle
	default:
		r.Error = answer.ClassTerminated
	}
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
	}
	u.Ended(r.Judged && !r.Denied())
	u.Moved(received, sent)
	s.Metrics.Ended(r.Mode, r.Judged && !r.Denied(), reason, r.Error, received, sent, took)
	s.Access.Write(r)
}
