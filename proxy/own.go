package proxy

import (
	"io"
	"time"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// fail says that there will be no connection.
func (x *exchange) fail(err error) {
	x.failed = err
	x.to(stageFailed)
}

// refuseNow tells the client on the loop why there is no connection.
func (c *conn) refuseNow(l *poll.Loop) {
	x := c.x
	x.dropUpstream()
	x.composeOwn(x.refusal(x.failed), x.passBody())
	x.tail = nil
	x.to(stageRefusing)
	c.touch()
	c.push(l)
}

// sendRefusal sends what is left of that.
func (c *conn) sendRefusal(l *poll.Loop) {
	if sent, err := c.sendOut(l); sent || err != nil {
		c.endRefusal(l, err)
	}
}

// composeOwn puts an answer of the proxy's own into x.out, and decides whether the connection
// can carry another request; whole says that the request's body was read.
func (x *exchange) composeOwn(own answer.Own, whole bool) {
	if x.c.socks.speaks {
		x.composeSocks(own)
		return
	}
	x.keep = whole && !own.Close && x.req.KeepAlive && !x.c.srv.door.Draining() && !x.behindConnect()
	x.did.status, x.did.class = own.Status, own.Class
	n := 0
	x.out, n = own.Append(x.out[:0], x.answerTo(x.keep))
	x.tailData = int64(n)
}

// behindConnect reports whether something came behind a CONNECT that is refused: it was meant
// for a tunnel, and is no request, whatever it looks like. What has come meanwhile, while a
// password was checked say, stands in the socket still; and of a client by TLS what it has sent
// with the CONNECT may be on its way here.
func (x *exchange) behindConnect() bool {
	switch {
	case string(x.req.Method) != "CONNECT":
		return false
	case len(x.c.buffered()) > 0, x.c.secure != nil:
		return true
	}
	unread := false
	err := x.c.tcp.Control(func(fd uintptr) {
		n, err := sock.Unread(int(fd))
		unread = err != nil || n > 0
	})
	return err != nil || unread
}

// passBody passes over the body of a request that is not forwarded. It does so
// only for a body that is all there: waiting for the rest would let a client send
// gigabytes for nothing.
func (x *exchange) passBody() bool {
	if x.body != nil {
		return x.body.whole
	}
	switch x.req.Framing {
	case http1.NoBody:
		return true
	case http1.Length:
		if x.req.Length > int64(len(x.c.buffered())) {
			return false
		}
		x.c.r += int(x.req.Length)
		return true
	}
	return false
}

// refuse answers the request with what err stands for.
func (x goExchange) refuse(err error) (keep bool) {
	if x.c.gone.Load() {
		x.did.class = answer.ClassClientGone
		return false
	}
	x.failed = err
	return x.answer(x.refusal(err))
}

// answer writes an answer of the proxy's own to the client, and reports whether the
// connection can carry another request. It cannot when the client may still be sending a
// body.
func (x goExchange) answer(own answer.Own) (keep bool) {
	x.revoked() // which is not known afterwards
	x.c.revive()
	x.composeOwn(own, x.skipBody())
	if !x.sendOwn(x.out, int(x.tailData)) {
		return false
	}
	if !x.keep {
		x.c.lastAnswer()
	}
	return x.keep
}

// answerTrace ends a TRACE here.
func (x goExchange) answerTrace() (keep bool) {
	x.did.status = 200
	keep = x.req.KeepAlive && !x.c.srv.door.Draining()
	out, n := answer.AppendTrace(x.out[:0], x.answerTo(keep))
	return x.sendOwn(out, n) && keep
}

// refuseMessage answers a request that must not be processed further.
func (x goExchange) refuseMessage(bad *http1.Error) bool {
	x.did.details = bad.Msg
	return x.answer(answer.BadRequest(bad))
}

// refuseOriginForm answers whoever takes the proxy for a web server.
func (x goExchange) refuseOriginForm() bool {
	host := string(x.req.Host)
	if host == "" {
		host = x.c.tcp.Local().String()
	}
	return x.answer(answer.NoOrigin(host))
}

// sendOwn sends an answer of the proxy's own, whose body has n bytes.
func (x goExchange) sendOwn(out []byte, n int) (sent bool) {
	x.out = out
	x.did.sent = int64(n)
	x.c.touch()
	x.did.firstByte = time.Since(x.did.start)
	x.c.sending.Store(true)
	_, err := x.c.write(x.out)
	x.c.sending.Store(false)
	return err == nil
}

// skipBody is passBody also for a request that was forwarded, or part of it.
func (x goExchange) skipBody() bool {
	if x.body != nil {
		return x.body.stop(x)
	}
	return x.passBody()
}

func (x *exchange) answerTo(keep bool) answer.To {
	return answer.To{Req: &x.req, ID: x.did.id, Now: time.Now(), Tenant: x.tenant().Name, Contact: x.tenant().Contact, Policy: x.judgedBy(), Keep: keep,
		Stream: x.c.inside != nil && x.c.inside.h2}
}

// refuse tells a client that it came on top of a limit, and reads what it had
// sent, within bounds, so that the answer is not lost to a reset.
func (c goConn) refuse(why door.Refusal) {
	defer c.tcp.Close()
	defer c.srv.panicked.Recover(func() {}) // it has no place to leave
	c.srv.Metrics.Refused(refusals[why])
	select {
	case c.srv.lingering <- struct{}{}:
		defer func() { <-c.srv.lingering }()
	default:
		return // too many to be told apart
	}
	c.tcp.SetDeadline(time.Now().Add(2 * time.Second))
	x := exchanges.Get().(*exchange)
	x.begin(c.conn)
	own := answer.Full()
	if why == door.TooMany {
		own = answer.FullForClient()
	}
	goExchange{x, c}.answer(own)
	x.end()
	c.lingerRefused()
}

// revive makes a connection usable again that a time limit has cut, so that the
// client is told. One that was cut to end a drain stays cut.
func (c goConn) revive() {
	c.mu.Lock() // or whoever has ended it may be about to set the past as its deadline
	defer c.mu.Unlock()
	if c.gone.Load() || c.srv.door.Cutting() || !c.Revive(door.Late) && !c.Revive(door.Slow) && !c.Revive(door.Revoked) {
		return
	}
	c.deadline.Store(0)
	c.tcp.SetDeadline(time.Time{})
}

// onlyReader hides what else a connection can do.
type onlyReader struct{ io.Reader }
