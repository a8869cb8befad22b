package proxy

import (
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
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
	gen    *policy.Generation // that has admitted it
	until  outbound.Until     // of a connect
	put    *policy.Inspected  // whose credentials the request has got; nil: none

	inspected bool // the request was made ready for a host of which it is said what requests may do

	absolute bool // out names the server, and is for a parent proxy
	loginAt  int  // where in out it is shown who the gateway is
	loginLen int  // of that, so far

	up     *outbound.Conn
	pooled bool              // up has served others before
	stage  stage             // on the loop
	begun  time.Time         // when it began to connect, on the loop
	failed error             // why it has no connection
	check  *outbound.Opening // of the tunnel that it becomes; nil: nothing is looked at
	// firstDue is when what comes first must have been judged, which has been waited for, by the coarse
	// clock; 0: it has not been.
	firstDue int64
	resp     http1.Response
	in       []byte // what the server sent and was not used is in[ir:iw]; see getIn
	ir, iw   int
	inFn     func(fd uintptr) bool // tryFillIn, bound once
	inErr    error                 // of the last read
	out      []byte                // a head being written
	unsent   []byte                // what the next read from the server sends first
	outErr   error                 // of doing so

	keep, dechunk bool   // of the answer: another request may follow; chunks are undone
	chunk         bool   // it is made chunks
	tail          []byte // of an answer that is whole: what stands behind out
	tailData      int64  // bytes of body in both
	left          int64  // bytes of body that have not come yet
	flow          tunnel.Flow
	touchFn       func() // conn.touch, bound once

	judged bool // ticket has the verdict
	did    progress
	rec    accesslog.Request // made of all that at the end
	body   *upload           // the request's body on its way; nil before that
	rest   []byte            // read from the client beyond the end of this request
}

// inRoom is what one read of an answer takes. A head that is larger has a buffer of its own.
const inRoom = 64 << 10

var (
	exchanges = sync.Pool{New: func() any {
		x := new(exchange)
		x.inFn = x.tryFillIn
		x.touchFn = func() { x.c.touch() }
		return x
	}}
	inBuffers = sync.Pool{New: func() any { return new([inRoom]byte) }}
)

// begin readies x for the request that the client has begun to send.
func (x *exchange) begin(c *conn) {
	x.c = c
	x.did = progress{start: time.Now(), id: c.srv.ids.next()}
	if c.socks.speaks {
		x.did.mode = metrics.SOCKS
	}
}

// end books the exchange and gives back what it held, and itself. A connection to the
// server that is still there is closed.
func (x *exchange) end() {
	x.body = nil
	x.dropUpstream()
	x.book()
	x.ticket.Hold.Release()
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
	req, resp, out, text, inFn, touchFn := x.req, x.resp, x.out[:0], x.rec.Text[:0], x.inFn, x.touchFn
	if cap(out) > 1<<16 {
		out = nil
	}
	*x = exchange{}
	x.req, x.resp, x.out, x.rec.Text, x.inFn, x.touchFn = req, resp, out, text, inFn, touchFn
}

func (x *exchange) dropUpstream() {
	if x.up != nil {
		x.c.upstream.Store(nil)
		x.up.Close()
		x.up = nil
	}
}
