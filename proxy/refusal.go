package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// outboundClasses says how each way of having no connection is told.
var outboundClasses = [...]string{
	outbound.Denied:           answer.ClassDenied,
	outbound.Looped:           answer.ClassLoop,
	outbound.DNSFailed:        answer.ClassDNSError,
	outbound.DNSTimeout:       answer.ClassDNSTimeout,
	outbound.DNSBusy:          answer.ClassLimit,
	outbound.Refused:          answer.ClassRefused,
	outbound.Unroutable:       answer.ClassUnroutable,
	outbound.ConnectTimeout:   answer.ClassConnectTimeout,
	outbound.TLSFailed:        answer.ClassTLSFailed,
	outbound.TLSUntrusted:     answer.ClassTLSUntrusted,
	outbound.NoDescriptors:    answer.ClassLimit,
	outbound.ConnectionFailed: answer.ClassTerminated,
}

// Errors that the exchange itself finds.
var (
	errClosedEarly = errors.New("the server closed the connection before its answer")
	errTooSlow     = errors.New("the server did not answer in time")
	errSwitch      = errors.New("the server switched protocols unasked")
	errInterim     = errors.New("the server sent too many interim answers")
	errClientGone  = errors.New("the client does not take its answer")
)

// refuse answers the request with what err stands for.
func (x goExchange) refuse(err error) (keep bool) {
	if x.c.gone.Load() {
		x.rec.Error = answer.ClassClientGone
		return false
	}
	return x.answer(x.refusal(err))
}

// refusal is the answer that err stands for. This is the one place where errors become
// answers.
func (x *exchange) refusal(err error) answer.Own {
	var out *outbound.Error
	var bad *http1.Error
	var target *targetError
	class := answer.ClassTerminated
	switch {
	case errors.As(err, &out) && out.Kind == outbound.Denied:
		return answer.Denied(x.ticket.Decision, x.wanted.Target.Host, x.tenant().HideRules)
	case errors.As(err, &out):
		class = outboundClasses[out.Kind]
	case errors.As(err, &target):
		class = answer.ClassRequest
	case errors.As(err, &bad): // the server's: refuseMessage answers the client's
		return answer.BadAnswer(bad, x.c.srv.AnswerHead)
	case err == errInterim:
		return answer.EndlessInterim(x.c.srv.AnswerHead)
	case err == errTooSlow:
		class = answer.ClassResponseTimeout
	case err == errSwitch:
		class = answer.ClassProtocol
	}
	return answer.Failed(class, err.Error())
}

// refuseMessage answers a request that must not be processed further.
func (x goExchange) refuseMessage(bad *http1.Error) bool {
	x.rec.Details = bad.Msg
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

// refuse tells a client that it came on top of a limit, and reads what it had
// sent, within bounds, so that the answer is not lost to a reset.
func (c goConn) refuse(why door.Refusal) {
	defer c.tcp.Close()
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
func (c *conn) revive() {
	if c.gone.Load() || c.srv.door.Cutting() || !c.Revive(door.Late) && !c.Revive(door.Slow) {
		return
	}
	c.deadline.Store(0)
	c.tcp.SetDeadline(time.Time{})
	if c.srv.door.Cutting() { // it may not have been cut, since it was ended already
		c.Cut(c.Look(), door.Shutdown)
	}
}

// onlyReader hides what else a connection can do.
type onlyReader struct{ io.Reader }

// failedBy sorts an error of reading from or writing to the server. One that was
// sorted already, as those of the gate are, stays.
func failedBy(err error) error {
	var bad *http1.Error
	var out *outbound.Error
	switch {
	case errors.As(err, &out), errors.As(err, &bad):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded), err == errExpired:
		return errTooSlow
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return errClosedEarly
	}
	return err
}
