package proxy

import (
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// prepare makes ready what is to be sent, and the connection to send it over.
func (x *exchange) prepare(l *poll.Loop) bool {
	c, s := x.c, x.c.srv
	if !x.parse(http1.AbsoluteForm) || x.req.Upgrade != nil || x.target.Scheme != "http" {
		return false
	}
	switch string(x.req.Method) {
	case "TRACE", "OPTIONS": // may be for the proxy itself
		return false
	}
	if x.req.Framing == http1.ChunkedEnc || x.req.Length != int64(len(c.buffered())) {
		return false // not the whole of its body has come, or more
	}
	x.rec.Mode = metrics.Forward
	known, err := x.admitNow(80)
	if !known {
		return false
	}
	if err == nil {
		err = x.composeRequest()
	}
	if err != nil {
		x.failed, x.stage = err, stageFailed
		return true
	}
	up := x.takeBound("")
	if up == nil && idempotent(x.req.Method) {
		up = s.Gate.Pool.Get(&x.ticket.Route, "")
	}
	if up != nil {
		c.upstream.Store(up)
		x.take(up, true)
		x.readyToAsk(l)
		return true
	}
	x.beginDial(l)
	return true
}

// readyToAsk makes ready to send the request over x.up.
func (x *exchange) readyToAsk(l *poll.Loop) {
	c := x.c
	l, err := c.srv.orNext(l)
	if err == nil {
		err = x.up.Watch(l, (*serverSide)(c))
	}
	if x.stage = stageAsk; err != nil {
		x.failed, x.stage = err, stageFailed
	}
}

// ask sends the request, unless the server has spoken since its last answer: nobody
// knows what that is meant for.
func (c *conn) ask(l *poll.Loop) {
	x := c.x
	fd, _ := x.up.TCP.Bare()
	if x.pooled && !sock.Quiet(fd) {
		x.dropUpstream()
		c.goAway(x)
		return
	}
	n, _ := sock.TryWrite(fd, x.out)
	x.stage = stageAsked
	switch {
	case n != len(x.out):
		x.unsent = x.out[max(n, 0):]
		c.goAway(x)
	case c.spoken:
		c.takeAnswer(l, fd)
	default:
		c.watch(l) // or nobody would see that the client goes meanwhile
	}
}

// takeAnswer reads what has come, and makes the answer ready to be sent.
func (c *conn) takeAnswer(l *poll.Loop, fd int) {
	x := c.x
	x.takeIn()
	n, err := sock.TryRead(fd, x.in[x.iw:])
	if err == unix.EAGAIN {
		x.dropIn()
		return
	}
	c.touch()
	x.iw += max(n, 0)
	if n <= 0 || !x.readAnswer() {
		c.goAway(x)
		return
	}
	x.composeAnswer(x.body.whole)
	x.tail, x.tailData, x.left = nil, 0, 0
	switch x.resp.Framing {
	case http1.Length:
		x.tail = x.in[x.ir:x.iw]
		if int64(len(x.tail)) > x.resp.Length {
			x.tail = x.tail[:x.resp.Length]
		}
		x.tailData = int64(len(x.tail))
		x.left = x.resp.Length - x.tailData
		x.ir += len(x.tail)
	case http1.ChunkedEnc:
		chunks := http1.Chunked{Lenient: true}
		n, data, _ := x.takeChunks(&chunks, x.dechunk) // readAnswer has seen them
		x.ir += n
		x.tailData = data
	}
	if len(x.tail) <= copyMost {
		x.out = append(x.out, x.tail...)
		x.tail = nil
	}
	x.stage = stageAnswer
	c.push(l)
}

// readAnswer reports whether what has come is the head of the final answer, with a body
// that can be sent without looking at more of it. Only then the head is used up.
func (x *exchange) readAnswer() bool {
	n, err := x.resp.Parse(x.in[:x.iw], string(x.req.Method) == "HEAD", x.c.srv.AnswerHead)
	if err != nil || x.resp.Status < 200 {
		return false
	}
	switch x.resp.Framing {
	case http1.NoBody, http1.Length:
	case http1.ChunkedEnc:
		chunks := http1.Chunked{Lenient: true}
		if _, _, err := scan(&chunks, x.in[n:x.iw]); err != nil || !chunks.Done() {
			return false
		}
	default:
		return false
	}
	x.ir = n
	return true
}

// sendAnswer sends what is ready of the answer.
func (c *conn) sendAnswer(l *poll.Loop) {
	x := c.x
	fd, _ := c.tcp.Bare()
	for len(x.out)+len(x.tail) > 0 { // to the end, or the kernel would not tell when there is room
		n, err := sock.TryWriteTwo(fd, x.out, x.tail)
		if err == unix.EAGAIN {
			c.block(l)
			return
		}
		if err != nil {
			c.endAnswer(l, nil, err)
			return
		}
		if n == len(x.out)+len(x.tail) {
			x.out, x.tail = x.out[:0], nil
			break
		}
		k := min(n, len(x.out))
		x.out, x.tail = x.out[k:], x.tail[n-k:]
	}
	x.sent()
	if x.left == 0 {
		c.endAnswer(l, nil, nil)
		return
	}
	c.touch()
	x.releaseIn()
	x.stage = stageBody
	c.srv.pump.NewFlow(&x.flow, x.left, x.touchFn)
	c.moveBody(l)
}

// moveBody moves as much of the body as has come and is taken.
func (c *conn) moveBody(l *poll.Loop) {
	x := c.x
	from, _ := x.up.TCP.Bare()
	to, _ := c.tcp.Bare()
	switch progress, readErr, writeErr := x.flow.Move(from, to); progress {
	case tunnel.Reads: // an event will tell
	case tunnel.Writes:
		c.block(l)
	case tunnel.More:
		c.push(l)
	default:
		c.endAnswer(l, readErr, writeErr)
	}
}

// block waits until the client takes more of the answer.
func (c *conn) block(l *poll.Loop) {
	c.blocked = true
	if c.asked {
		return
	}
	if !c.watch(l) {
		c.expire()
		return
	}
	fd, _ := c.tcp.Bare()
	if c.asked = true; c.loop.Ask(fd, poll.Bytes|poll.Room) != nil {
		c.expire()
	}
}

// endAnswer ends the exchange: its answer was sent, or broke off.
func (c *conn) endAnswer(l *poll.Loop, readErr, writeErr error) {
	x := c.x
	if x.stage == stageBody {
		x.rec.Sent += x.flow.Moved()
	}
	keep := x.answered(x.body.whole, readErr, writeErr)
	c.endExchange()
	switch {
	case !keep && c.lingers:
		c.linger(l)
	case !keep || c.arm(c.srv.KeepAliveTimeout) != nil:
		c.finish()
	case c.more:
		c.takeRequest(l)
	default:
		c.quiet(l)
	}
}
