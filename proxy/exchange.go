package proxy

import (
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// exchange is one request and its answer. It is used again for others, see forget; heads
// and fields point into the client's buffer, or into in.
type exchange struct {
	c *conn

	req    http1.Request
	target http1.Target
	wanted outbound.Request
	ticket outbound.Ticket
	until  outbound.Until // of a connect

	up     *outbound.Conn
	pooled bool      // up has served others before
	stage  int       // stageAsk …
	begun  time.Time // when it began to connect, while attended
	failed error     // why it has no connection, while attended
	resp   http1.Response
	in     []byte // what the server sent and was not used is in[ir:iw]; see takeIn
	ir, iw int
	inFn   func(fd uintptr) bool // inStep, bound once
	inErr  error                 // of the last read
	out    []byte                // a head being written
	unsent []byte                // what the next read from the server sends first
	outErr error                 // of doing so

	keep, dechunk bool   // of the answer: another request may follow; chunks are undone
	tail          []byte // of an answer that is whole: what stands behind out
	tailData      int64  // bytes of body in both
	left          int64  // bytes of body that have not come yet
	flow          tunnel.Flow
	touchFn       func() // conn.touch, bound once

	ask  refusal
	rec  Record
	body *upload // the request's body on its way; nil before that
	rest []byte  // read from the client beyond the end of this request
}

// inRoom is what one read of an answer takes. A head that is larger has a buffer of its own.
const inRoom = 64 << 10

var (
	exchanges = sync.Pool{New: func() any {
		x := new(exchange)
		x.inFn = x.inStep
		x.touchFn = func() { x.c.touch() }
		return x
	}}
	inBuffers = sync.Pool{New: func() any { return new([inRoom]byte) }}
)

// begin readies x for the request that the client has begun to send.
func (x *exchange) begin(c *conn) {
	x.c = c
	x.rec = Record{text: x.rec.text[:0], Start: time.Now(), ID: c.srv.ids.next(), Client: c.tcp.Remote()}
}

// end books the exchange and gives back what it held, and itself. A connection to the
// server that is still there is closed.
func (x *exchange) end() {
	if x.body != nil {
		x.body.stop(x)
		x.body = nil
	}
	x.dropUpstream()
	x.keepTarget()
	x.c.srv.book(&x.rec, x.rec.Received, x.rec.Sent)
	if x.rest != nil {
		x.c.unread(x.rest)
	}
	x.releaseIn()
	x.flow.Release()
	x.forget()
	exchanges.Put(x)
}

// forget leaves nothing of the request but room for the next one's heads, and what is
// bound to x.
func (x *exchange) forget() {
	x.req.Reset()
	x.resp.Reset()
	req, resp, out, text, inFn, touchFn := x.req, x.resp, x.out[:0], x.rec.text[:0], x.inFn, x.touchFn
	if cap(out) > 1<<16 {
		out = nil
	}
	*x = exchange{}
	x.req, x.resp, x.out, x.rec.text, x.inFn, x.touchFn = req, resp, out, text, inFn, touchFn
}

func (x *exchange) dropUpstream() {
	if x.up != nil {
		x.c.setUpstream(nil)
		x.up.Close()
		x.up = nil
	}
}

// book writes the log line and counts, with the bytes that Metrics.Moved was not told of. The
// request is over.
func (s *Server) book(r *Record, received, sent int64) {
	if r.silent {
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
	s.Metrics.Ended(r.Mode, r.Judged && !r.denied(), reason, r.Error, received, sent, took)
	if s.Access != nil {
		s.Access.Write(r)
	}
}

// keepTarget copies what the log line says of the heads out of the buffers that
// they are in, before those are used for something else.
func (x *exchange) keepTarget() {
	r := &x.rec
	if x.c.srv.Access == nil || len(r.text) > 0 || len(x.req.Method) == 0 {
		return
	}
	keep := func(b []byte) (s span) {
		s.from = uint32(len(r.text))
		r.text = append(r.text, b...)
		s.to = uint32(len(r.text))
		return s
	}
	r.method, r.target = keep(x.req.Method), keep(x.req.Target)
	r.userAgent, r.referer = keep(x.req.Get(http1.UserAgent)), keep(x.req.Get(http1.Referer))
	r.contentType = keep(x.resp.Get(http1.ContentType))
	r.Minor = uint8(x.req.Minor)
}
