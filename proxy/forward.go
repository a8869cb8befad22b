package proxy

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

// forward serves a request in absolute form.
func (x goExchange) forward() bool {
	x.rec.Mode = metrics.Forward
	port, server := uint16(80), ""
	if x.target.Scheme == "https" {
		port = 443
	}
	if err := x.admit(port); err != nil {
		return x.refuse(err)
	}
	if x.target.Scheme == "https" {
		server = x.wanted.Target.Host.String()
	}
	if x.req.MaxForwards == 0 {
		switch string(x.req.Method) {
		case "TRACE":
			return x.answerTrace()
		case "OPTIONS":
			return x.answer(answer.Options())
		}
	}
	err := x.composeRequest()
	if err == nil {
		err = x.send(server)
	}
	return x.afterSend(err)
}

// afterSend goes on when send has brought the head of the final answer, or err.
func (x goExchange) afterSend(err error) bool {
	switch {
	case err != nil:
		return x.endUnsent(err)
	case x.resp.Status == 101:
		return x.upgrade()
	}
	return x.forwardResponse()
}

// endUnsent ends an exchange that has no answer from the server.
func (x goExchange) endUnsent(err error) bool {
	var body *bodyError
	if err == errClientGone || x.c.gone.Load() {
		x.rec.Error = answer.ClassClientGone
		return false
	}
	if !errors.As(err, &body) {
		err = failedBy(err)
		if err == errTooSlow && x.c.Why() == door.Slow { // the server waits for the client, as we do
			return x.answer(answer.SlowBody())
		}
		return x.refuse(err)
	}
	var bad *http1.Error
	if errors.As(body.error, &bad) {
		return x.refuseMessage(bad)
	}
	if errors.Is(body.error, os.ErrDeadlineExceeded) {
		return x.answer(answer.SlowBody())
	}
	x.rec.Error = answer.ClassClientGone
	return false
}

// send sends the request and reads the head of the final answer. A connection
// from the pool may have been closed by the server meanwhile: then a request that
// can be sent again is, once, over a new one.
func (x goExchange) send(server string) error {
	again := x.body.whole && idempotent(x.req.Method)
	for {
		var err error
		if x.stage == stageAsked { // while it was attended
			x.stage = stageAsk
			err = x.awaited()
		} else {
			if err = x.connectServer(server, again); err != nil {
				return err
			}
			x.c.touch()
			err = x.request()
		}
		if err == errStale {
			x.dropUpstream()
			continue
		}
		if err == nil {
			return nil
		}
		if !again || !x.pooled || x.iw > 0 || x.resp.Status != 0 || failedBy(err) != errClosedEarly {
			return err
		}
		again = false
		x.dropUpstream()
	}
}

// connectServer makes x.up a connection: one that is bound to this client, one from the pool
// if it may be, or a new one.
func (x goExchange) connectServer(server string, pool bool) error {
	x.up = nil
	for {
		up := x.takeBound(server)
		if up == nil && pool {
			up = x.c.srv.Gate.Pool.Get(&x.ticket.Route, server)
		}
		if up == nil {
			return x.dial(server)
		}
		up.Unwatch()
		if up.TLS == nil && x.body.whole || up.Quiet() { // else sendStep finds out
			x.use(up, true)
			return nil
		}
		up.Close()
	}
}

// awaited reads the head of the answer to a request that was sent, but for x.unsent.
func (x goExchange) awaited() error {
	x.outErr = nil
	if x.unsent != nil {
		_, x.outErr = x.up.Blocking().Write(x.unsent)
		x.unsent = nil
	}
	return x.readAfterSend()
}

// readAfterSend reads the head of the answer. The server may have answered and closed
// before it took the request whole: that answer counts.
func (x goExchange) readAfterSend() error {
	err := x.readResponse()
	x.unsent = nil
	if err != nil && x.outErr != nil && failedBy(err) == errClosedEarly {
		return x.outErr
	}
	return err
}

// request sends the request over x.up and reads the head of the answer.
func (x goExchange) request() error {
	x.outErr, x.unsent = nil, nil
	x.ir, x.iw = 0, 0
	if x.body.whole && x.up.TLS == nil {
		x.unsent = x.out
	} else if _, x.outErr = x.up.Blocking().Write(x.out); x.outErr == nil {
		x.body.start(x)
	}
	return x.readAfterSend()
}

// idempotent reports whether a request may be sent again (RFC 9110 section
// 9.2.2). Others are never sent over a pooled connection: whether a server took
// them before it closed cannot be known.
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// composeRequest puts the request for the server into x.out, with as much of the
// body as has come, and into x.body what is to be done about the rest.
func (x *exchange) composeRequest() error {
	r := &x.req
	b := append(x.out[:0], r.Method...)
	b = append(b, ' ')
	b = x.appendPath(b)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = x.appendAuthority(b)
	b = append(b, "\r\n"...)
	// http1 has refused what could frame a body in two ways, so the Content-Length
	// line goes as it came.
	b = r.AppendFields(b, http1.Host, http1.MaxForwards, x.forwardedField())
	b = append(b, "Via: 1."...)
	b = append(b, '0'+byte(r.Minor), ' ')
	b = append(b, x.c.srv.Name...)
	b = append(b, "\r\n"...)
	if r.MaxForwards > 0 && (string(r.Method) == "TRACE" || string(r.Method) == "OPTIONS") {
		b = append(b, "Max-Forwards: "...)
		b = strconv.AppendInt(b, int64(r.MaxForwards-1), 10)
		b = append(b, "\r\n"...)
	} else if v := r.Get(http1.MaxForwards); v != nil {
		b = append(b, "Max-Forwards: "...)
		b = append(append(b, v...), "\r\n"...)
	}
	if x.c.srv.ForwardedFor {
		b = x.appendForwardedFor(b)
	}
	if r.Framing == http1.ChunkedEnc {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = appendConnection(b, r.Upgrade, r.Trailers)
	x.out = append(b, "\r\n"...)
	return x.takeBody()
}

// appendConnection writes the fields that speak of the connection to the server.
func appendConnection(b, upgrade []byte, trailers bool) []byte {
	switch {
	case upgrade != nil && trailers:
		b = append(b, "Connection: Upgrade, TE\r\nTE: trailers\r\n"...)
	case upgrade != nil:
		b = append(b, "Connection: Upgrade\r\n"...)
	case trailers:
		b = append(b, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	if upgrade != nil {
		b = append(append(append(b, "Upgrade: "...), upgrade...), "\r\n"...)
	}
	return b
}

func (x *exchange) appendPath(b []byte) []byte {
	path := x.target.Path
	if len(path) == 0 && string(x.req.Method) == "OPTIONS" {
		return append(b, '*') // RFC 9112 section 3.2.4
	}
	if len(path) == 0 || path[0] != '/' {
		b = append(b, '/')
	}
	return append(b, path...)
}

// appendAuthority writes the target that was judged, whatever Host said (RFC 9112
// section 3.2.2). The port is there if the client wrote it, also the scheme's own: there
// are clients that sign it.
func (x *exchange) appendAuthority(b []byte) []byte {
	host := x.wanted.Target.Host
	switch {
	case !host.IsAddr():
		b = append(b, host.Name()...)
	case host.Addr().Is6():
		b = append(host.Addr().AppendTo(append(b, '[')), ']')
	default:
		b = host.Addr().AppendTo(b)
	}
	if namesPort(x.target.Authority) {
		b = strconv.AppendUint(append(b, ':'), uint64(x.wanted.Target.Port), 10)
	}
	return b
}

// namesPort reports whether an authority has a port; an empty one is none.
func namesPort(authority []byte) bool {
	i := bytes.LastIndexByte(authority, ':')
	return i > bytes.LastIndexByte(authority, ']') && i < len(authority)-1
}

// forwardedField is what appendForwardedFor writes anew.
func (x *exchange) forwardedField() http1.FieldID {
	if x.c.srv.ForwardedFor {
		return http1.XForwardedFor
	}
	return http1.Host
}

func (x *exchange) appendForwardedFor(b []byte) []byte {
	b = append(b, "X-Forwarded-For: "...)
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.ID == http1.XForwardedFor {
			b = append(append(b, f.Value...), ", "...)
		}
	}
	b = x.c.tcp.Remote().Addr().AppendTo(b)
	return append(b, "\r\n"...)
}
