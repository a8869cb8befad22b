package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// outboundClasses says how each way of having no connection is told.
var outboundClasses = [...]string{
	outbound.Denied:            answer.ClassDenied,
	outbound.Looped:            answer.ClassLoop,
	outbound.Unauthenticated:   answer.ClassDenied,
	outbound.Unverified:        answer.ClassLimit,
	outbound.OverLimit:         answer.ClassLimit,
	outbound.RequestDenied:     answer.ClassDenied,
	outbound.RequestMalformed:  answer.ClassRequest,
	outbound.BodyTooLarge:      answer.ClassRequest,
	outbound.NoCredential:      answer.ClassConfiguration,
	outbound.DNSFailed:         answer.ClassDNSError,
	outbound.DNSTimeout:        answer.ClassDNSTimeout,
	outbound.DNSBusy:           answer.ClassLimit,
	outbound.Refused:           answer.ClassRefused,
	outbound.Unroutable:        answer.ClassUnroutable,
	outbound.ConnectTimeout:    answer.ClassConnectTimeout,
	outbound.TLSFailed:         answer.ClassTLSFailed,
	outbound.TLSUntrusted:      answer.ClassTLSUntrusted,
	outbound.ParentUnavailable: answer.ClassUnavailable,
	outbound.ParentForbids:     answer.ClassDenied,
	outbound.ParentLogin:       answer.ClassConfiguration,
	outbound.ParentBroken:      answer.ClassProtocol,
	outbound.NoDescriptors:     answer.ClassLimit,
	outbound.ConnectionFailed:  answer.ClassTerminated,
}

// Errors that the exchange itself finds.
var (
	errClosedEarly = errors.New("the server closed the connection before its answer")
	errTooSlow     = errors.New("the server did not answer in time")
	errSwitch      = errors.New("the server switched protocols unasked")
	errInterim     = errors.New("the server sent too many interim answers")
	errOtherWay    = errors.New("by which parent proxy this goes has changed meanwhile; try again")
	errClientGone  = errors.New("the client does not take its answer")
)

// noteWhy has the record say why a request at an inspected host was refused that its rules allow, or
// why it came to nothing there: by the rule alone the log would contradict itself.
func (x *exchange) noteWhy(err error) {
	var out *outbound.Error
	switch byRule := errors.As(err, &out) && (out.Err == nil || out.Kind == outbound.RequestMalformed && x.ticket.Request.Reason == request.Malformed); {
	case !x.ticket.Asked, byRule, x.did.details != "":
		return
	}
	x.did.details = err.Error()
}

// refusal is the answer that err stands for. This is the one place where errors become
// answers.
func (x *exchange) refusal(err error) answer.Own {
	x.noteWhy(err)
	var out *outbound.Error
	var bad *http1.Error
	var target *targetError
	var revoked *revokedError
	class := answer.ClassTerminated
	switch {
	case errors.As(err, &revoked):
		return x.refusalOfRevoked(revoked.why)
	case errors.As(err, &out) && out.Kind == outbound.Denied && x.tenant().Unclaimed:
		return answer.Unclaimed()
	case errors.As(err, &out) && out.Kind == outbound.Unauthenticated:
		return answer.Unauthenticated(err.Error(), auth.Challenge)
	case errors.As(err, &out) && out.Kind == outbound.OverLimit:
		return answer.OverLimit(err.Error(), out.RetryAfter)
	case errors.As(err, &out) && out.Kind == outbound.Denied:
		return answer.Denied(x.ticket.Decision, x.wanted.Target.Host, x.tenant().HideRules)
	case errors.As(err, &out) && out.Kind == outbound.RequestDenied:
		return answer.RequestDenied(x.ticket.Request, out.Err, x.tenant().HideRules)
	case errors.As(err, &out) && out.Kind == outbound.BodyTooLarge:
		return answer.BodyTooLarge(err.Error())
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
	case err == errOtherWay:
		class = answer.ClassUnavailable
	case err == errSwitch, err == errShows, err == errShowsBehind:
		class = answer.ClassProtocol
	}
	return answer.Failed(class, err.Error())
}

// failedBy sorts an error of reading from or writing to the server. One that was
// sorted already, as those of the gate are, stays.
func failedBy(err error) error {
	var bad *http1.Error
	var out *outbound.Error
	wants := outbound.WantsCertificate(err)
	switch {
	case errors.As(err, &out), errors.As(err, &bad):
		return err
	case wants != nil:
		return wants
	case errors.Is(err, os.ErrDeadlineExceeded), err == errExpired:
		return errTooSlow
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return errClosedEarly
	}
	return err
}
