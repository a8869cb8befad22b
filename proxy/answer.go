package proxy

import (
	"time"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

// answer writes an answer of the proxy's own to the client, and reports whether the
// connection can carry another request. It cannot when the client may still be sending a
// body.
func (x goExchange) answer(own answer.Own) (keep bool) {
	x.c.revive()
	whole := x.skipBody() && !own.Close
	keep = whole && x.req.KeepAlive && !x.c.srv.door.Draining()
	x.rec.Status, x.rec.Error = own.Status, own.Class
	out, n := own.Append(x.out[:0], x.answerTo(keep))
	if !x.sendOwn(out, n) {
		return false
	}
	if !keep {
		x.c.lastAnswer()
	}
	return keep
}

// answerTrace ends a TRACE here.
func (x goExchange) answerTrace() (keep bool) {
	x.rec.Status = 200
	keep = x.req.KeepAlive && !x.c.srv.door.Draining()
	out, n := answer.AppendTrace(x.out[:0], x.answerTo(keep))
	return x.sendOwn(out, n) && keep
}

func (x *exchange) answerTo(keep bool) answer.To {
	return answer.To{Req: &x.req, ID: x.rec.ID, Now: time.Now(), Contact: x.tenant().Contact, Keep: keep}
}

// sendOwn sends an answer of the proxy's own, whose body has n bytes.
func (x goExchange) sendOwn(out []byte, n int) (sent bool) {
	x.out = out
	x.rec.Sent = int64(n)
	x.c.touch()
	x.rec.FirstByte = time.Since(x.rec.Start)
	_, err := x.c.tcp.Write(x.out)
	return err == nil
}

// skipBody passes over the body of a request that is not forwarded. It does so
// only for a body that is all there: waiting for the rest would let a client send
// gigabytes for nothing.
func (x goExchange) skipBody() bool {
	c := x.c
	if x.body != nil {
		return x.body.stop(x) // it was forwarded, or part of it
	}
	switch x.req.Framing {
	case http1.NoBody:
		return true
	case http1.Length:
		if x.req.Length > int64(len(c.buffered())) {
			return false
		}
		c.r += int(x.req.Length)
		return true
	}
	return false
}
