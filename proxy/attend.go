package proxy

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// Most requests need no goroutine: the head comes in one piece, and its target is known.
// If it is one in absolute form, a connection to its server lies in the pool, the
// answer's head comes in one piece too, and its body has a length or is all there; if it
// is CONNECT, there is one address to connect to.
// Such an exchange is attended: whoever sees the event does what is to be done, and goes
// on to the next. What is read in one round of events is sent when the round is over, so
// that the other ends are woken once for many bytes.
//
// Whatever else happens, the connection goes away to a goroutine, with the exchange as
// far as it has come; conn.run and the rest of this package do there whatever may have
// to wait. It comes back when it is between two requests.

// The stages of an exchange that is attended.
const (
	stageAsk        = iota // the request is to be sent; also of one that never was attended
	stageAsked             // it was sent
	stageAnswer            // the answer is to be sent, or what has come of it
	stageBody              // the rest of its body is on its way: see exchange.flow
	stageConnecting        // CONNECT: the handshake with the server is under way
	stageConnected         // CONNECT: the tunnel is to be made
	stageFailed            // there is no connection: see exchange.failed
)

var connectMethod = []byte("CONNECT ")

// attend begins to serve a client that has just come.
func (c *conn) attend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.away {
		c.arm(c.srv.HeadTimeout)
		c.takeRequest(nil)
	}
}

// Ready is for the loop: something has come from the client.
func (c *conn) Ready(l *poll.Loop, _ int, events uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return
	}
	c.ending = c.ending || events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0
	c.more = c.more || events&^unix.EPOLLOUT != 0
	switch {
	case c.x == nil && c.more:
		c.takeRequest(l)
	case c.blocked:
		c.blocked = false
		c.do(l)
	}
}

// takeRequest reads what has come, and begins an exchange if that is a request. c.mu is
// held, as in all that follows; l is the loop that calls, or nil.
func (c *conn) takeRequest(l *poll.Loop) {
	fd, _ := c.tcp.Bare()
	c.buf = headBuffers.Get().(*[headRoom]byte)[:]
	n, err := sock.TryRead(fd, c.buf)
	c.r, c.w = 0, max(n, 0)
	c.more = c.ending || n == len(c.buf)
	switch {
	case err == unix.EAGAIN:
		c.releaseBuffer()
		c.quiet(l)
	case n <= 0:
		c.releaseBuffer()
		c.finish()
	case !c.beginExchange(l):
		c.r = 0
		c.goAway(nil)
	}
}

// beginExchange begins one that can be attended, or reports that this can't.
func (c *conn) beginExchange(l *poll.Loop) bool {
	x := exchanges.Get().(*exchange)
	x.begin(c)
	able := false
	if bytes.HasPrefix(c.buffered(), connectMethod) {
		able = x.beginConnect(l)
	} else {
		able = x.prepare(l)
	}
	if !able {
		x.rec.silent = true // it is begun anew elsewhere
		x.end()
		exchanges.Put(x)
		return false
	}
	c.x = x
	switch x.stage {
	case stageFailed:
		c.goAway(x)
	case stageConnecting: // an event will tell
	default:
		c.touch()
		c.push(l)
	}
	return true
}

// prepare makes ready what is to be sent, and the connection to send it over.
func (x *exchange) prepare(l *poll.Loop) bool {
	c, s := x.c, x.c.srv
	if !x.parse(http1.AbsoluteForm) || x.req.Upgrade != nil || x.target.Scheme != "http" {
		return false
	}
	switch string(x.req.Method) {
	case "GET", "HEAD", "PUT", "DELETE": // idempotent, and not for the proxy itself
	default:
		return false
	}
	x.rec.Mode = metrics.Forward
	if !x.allowed(80) || x.looped() || x.composeRequest() != nil || !x.body.whole || c.r != c.w {
		return false
	}
	up := s.Gate.Pool.Get(&x.route, "")
	if up == nil {
		return false
	}
	x.take(up, true)
	c.upstream.Store(up)
	l, err := s.orNext(l)
	return err == nil && up.Watch(l, (*serverSide)(c)) == nil
}

// parse reads the whole head, whose target must have that form.
func (x *exchange) parse(form http1.Form) bool {
	n, err := x.req.Parse(x.c.buffered(), x.c.srv.Head)
	if err != nil {
		return false
	}
	x.c.r += n
	x.target, err = x.req.ParseTarget()
	return err == nil && x.target.Form == form
}

// allowed reports whether the target is one that may be connected to, as far as that is
// known without asking anybody. Who is told why not is a matter for a goroutine.
func (x *exchange) allowed(port uint16) bool {
	s := x.c.srv
	x.gen = s.live.Load()
	var err error
	if x.dest, err = s.targets.read(x.target.Authority, port); err != nil {
		return false
	}
	known, err := s.Gate.JudgeNow(x.gen, x.dest, &x.route)
	x.judged()
	return known && err == nil
}

// orNext returns l, or another loop if it is nil.
func (s *Server) orNext(l *poll.Loop) (*poll.Loop, error) {
	if l != nil {
		return l, nil
	}
	return s.loops.Next()
}

// beginConnect begins to connect for a CONNECT.
func (x *exchange) beginConnect(l *poll.Loop) bool {
	c, s := x.c, x.c.srv
	if !x.parse(http1.AuthorityForm) || c.r != c.w {
		return false
	}
	x.rec.Mode = metrics.Connect
	if !x.allowed(0) {
		return false
	}
	if len(x.route.Addrs) != 1 {
		return false // it takes happy eyeballs
	}
	x.begun = time.Now()
	up, connecting, able, err := s.Gate.BeginConnect(x.route.Addrs[0], x.route.Port, x.route.Sources)
	switch {
	case !able:
		return false
	case err != nil:
		x.failed, x.stage = err, stageFailed
		x.rec.Connect = time.Since(x.begun)
	case connecting:
		x.up, x.stage = up, stageConnecting
		c.upstream.Store(up)
		c.arm(s.ConnectTimeout)
		if l, err = s.orNext(l); err == nil {
			err = up.WatchConnecting(l, (*serverSide)(c))
		}
		if err != nil {
			x.failed, x.stage = err, stageFailed
		}
	default:
		c.upstream.Store(up)
		x.connected(up)
	}
	return true
}

// connected goes on when there is a connection to the server.
func (x *exchange) connected(up *outbound.Conn) {
	x.take(up, false)
	x.rec.Connect = time.Since(x.begun)
	x.rec.Status, x.tail = 200, established
	x.stage = stageConnected
}

// endConnect is called when there may be news of a handshake.
func (c *conn) endConnect(l *poll.Loop) {
	x := c.x
	switch over, err := x.up.Connected(); {
	case err != nil:
		x.failed, x.stage = err, stageFailed
		x.rec.Connect = time.Since(x.begun)
		c.goAway(x)
	case over:
		x.connected(x.up)
		c.touch()
		c.push(l)
	}
}

// makeTunnel tells the client, and makes a tunnel of the connection.
func (c *conn) makeTunnel() {
	x := c.x
	fd, _ := c.tcp.Bare()
	n, _ := sock.TryWrite(fd, x.tail)
	if n != len(x.tail) {
		x.tail = x.tail[max(n, 0):]
		c.goAway(x)
		return
	}
	x.rec.Tunnel, x.rec.FirstByte = true, time.Since(x.rec.Start)
	x.keepTarget()
	c.releaseBuffer()
	c.away, c.x = true, nil
	x.handOver()
	x.end()
	exchanges.Put(x)
}

// push does the next step of the exchange when the round of events is over.
func (c *conn) push(l *poll.Loop) {
	c.pending = true
	if l == nil {
		c.do(l)
		return
	}
	l.Later(c)
}

// Do is for the loop: the round is over.
func (c *conn) Do(l *poll.Loop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending {
		c.do(l)
	}
}

func (c *conn) do(l *poll.Loop) {
	c.pending = false
	switch c.x.stage {
	case stageAnswer:
		c.sendAnswer(l)
	case stageBody:
		c.moveBody(l)
	case stageConnected:
		c.makeTunnel()
	default:
		c.ask()
	}
}

// ask sends the request, unless the server has spoken since its last answer: nobody
// knows what that is meant for.
func (c *conn) ask() {
	x := c.x
	fd, _ := x.up.TCP.Bare()
	var unasked [1]byte
	if _, err := sock.TryRead(fd, unasked[:]); err != unix.EAGAIN {
		x.dropUpstream()
		c.goAway(x)
		return
	}
	n, _ := sock.TryWrite(fd, x.out)
	x.stage = stageAsked
	if n != len(x.out) {
		x.unsent = x.out[max(n, 0):]
		c.goAway(x)
	}
}

// serverSide is a conn as the one whom the events of its server's connection are for.
type serverSide conn

// Ready is for the loop: something has come from the server.
func (s *serverSide) Ready(l *poll.Loop, fd int, _ uint32) {
	c := (*conn)(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.x
	if c.away || x == nil || x.up == nil {
		return
	}
	if own, _ := x.up.TCP.Bare(); own != fd {
		return
	}
	switch x.stage {
	case stageAsked:
		c.takeAnswer(l, fd)
	case stageBody:
		if !c.blocked && !c.pending {
			c.push(l)
		}
	case stageConnecting:
		c.endConnect(l)
	}
}

// takeAnswer reads what has come, and makes the answer ready to be sent.
func (c *conn) takeAnswer(l *poll.Loop, fd int) {
	x := c.x
	x.takeIn()
	n, err := sock.TryRead(fd, x.in[x.iw:])
	if err == unix.EAGAIN {
		inBuffers.Put(x.in)
		x.in = nil
		return
	}
	c.touch()
	x.iw += max(n, 0)
	if n <= 0 || !x.readAnswer() {
		c.goAway(x)
		return
	}
	x.composeAnswer()
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
		var chunks http1.Chunked
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
	n, err := x.resp.Parse(x.in[:x.iw], string(x.req.Method) == "HEAD", replyLimits)
	if err != nil || x.resp.Status < 200 {
		return false
	}
	switch x.resp.Framing {
	case http1.NoBody, http1.Length:
	case http1.ChunkedEnc:
		var chunks http1.Chunked
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
	if c.asked = true; c.loop.Ask(fd) != nil {
		c.expire()
	}
}

// endAnswer ends the exchange: its answer was sent, or broke off.
func (c *conn) endAnswer(l *poll.Loop, readErr, writeErr error) {
	x := c.x
	if x.stage == stageBody {
		x.rec.Sent += x.flow.Moved()
	}
	keep := x.answered(readErr, writeErr)
	x.end()
	exchanges.Put(x)
	c.x, c.pending, c.blocked = nil, false, false
	c.served++
	c.r = c.w
	c.releaseBuffer()
	switch {
	case !keep || c.arm(c.srv.KeepAliveTimeout) != nil:
		c.finish()
	case c.more:
		c.takeRequest(l)
	default:
		c.quiet(l)
	}
}

// quiet waits for the client's next request.
func (c *conn) quiet(l *poll.Loop) {
	if !c.watch(l) || c.srv.draining.Load() { // Shutdown sets draining first, and then looks who is quiet
		c.goAway(nil)
	}
}

// watch has the client's events told, by l if not yet by another loop.
func (c *conn) watch(l *poll.Loop) bool {
	if c.loop != nil {
		return true
	}
	l, err := c.srv.orNext(l)
	if err != nil {
		return false
	}
	fd, ok := c.tcp.Bare()
	if !ok || l.Add(fd, c) != nil {
		return false
	}
	c.loop, c.asked = l, false
	return true
}

// goAway has a goroutine serve the connection, and go on with x, if there is one.
func (c *conn) goAway(x *exchange) {
	c.away, c.pending, c.x = true, false, nil
	if fd, _ := c.tcp.Bare(); c.loop != nil {
		c.loop.Remove(fd)
		c.loop = nil
	}
	if x != nil && x.up != nil {
		if x.up.Unwatch(); x.stage == stageAsk {
			x.dropUpstream()
		}
	}
	c.srv.wg.Add(1)
	go c.run(x)
}

// comeBack is called by the goroutine that serves the connection, between two requests.
// It reports whether the connection is attended from then on; then the goroutine has
// nothing to do with it any more.
func (c *conn) comeBack() bool {
	if _, bare := c.tcp.Bare(); !bare || len(c.buffered()) > 0 {
		return false // it had to wait for this client, and will have to again
	}
	c.releaseBuffer()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arm(c.srv.KeepAliveTimeout) != nil || !c.watch(nil) {
		return false
	}
	if c.srv.draining.Load() {
		fd, _ := c.tcp.Bare()
		c.loop.Remove(fd)
		c.loop = nil
		return false
	}
	c.away, c.more, c.ending = false, false, false
	return true
}

// expire ends an attended connection whose time limit has passed. Whoever has had
// nothing of an answer yet is told.
func (c *conn) expire() {
	switch x := c.x; {
	case x == nil:
		c.finish()
	case x.stage == stageAnswer || x.stage == stageBody && c.blocked:
		x.flow.Release()
		c.endAnswer(nil, nil, os.ErrDeadlineExceeded)
	case x.stage == stageBody:
		x.flow.Release()
		c.endAnswer(nil, os.ErrDeadlineExceeded, nil)
	default:
		c.goAway(x)
	}
}

// finish closes an attended connection.
func (c *conn) finish() {
	c.away = true
	if fd, _ := c.tcp.Bare(); c.loop != nil {
		c.loop.Forget(fd)
		c.loop = nil
	}
	c.tcp.Close()
	c.srv.released(c)
}

// carryOn goes on, on a goroutine, with an exchange that was attended.
func (x *exchange) carryOn() (keep bool) {
	c := x.c
	if c.deadline.Load() == expired {
		c.wake()
	}
	switch x.stage {
	case stageConnecting:
		x.rec.Connect = time.Since(x.begun)
		x.failed = x.up.TooSlow()
		x.dropUpstream()
		fallthrough
	case stageFailed:
		return x.refuse(x.failed)
	case stageConnected:
		return x.switchTo(x.tail)
	}
	return x.afterSend(x.send(""))
}
