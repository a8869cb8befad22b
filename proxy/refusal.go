package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// refusal is an answer of the proxy's own, before it is written out. Its zero
// value is none.
type refusal struct {
	status  int
	class   string // error type of RFC 9209 section 2.3; "" when nothing went wrong
	phrase  string // reason phrase: all that a CONNECT client shows its user
	details string // for Proxy-Status; the phrase when ""
	advice  string // a sentence for a person, "" for none
	allow   bool   // answers OPTIONS: has an Allow field
	close   bool   // the connection cannot be used again
}

// Error classes that are used in more than one place (RFC 9209 section 2.3).
const (
	classDenied     = "http_request_denied"
	classProhibited = "destination_ip_prohibited"
	classRequest    = "http_request_error"
	classProtocol   = "http_protocol_error"
	classTerminated = "connection_terminated"
	classLimit      = "connection_limit_reached"
	classTimeout    = "http_response_timeout"
)

// outboundAnswers says how each way of having no connection is told. Denied is
// told by denial.
var outboundAnswers = map[outbound.Kind]struct {
	status int
	class  string
}{
	outbound.Looped:           {502, "proxy_loop_detected"},
	outbound.DNSFailed:        {502, "dns_error"},
	outbound.DNSTimeout:       {504, "dns_timeout"},
	outbound.DNSBusy:          {503, classLimit},
	outbound.Refused:          {502, "connection_refused"},
	outbound.Unroutable:       {502, "destination_ip_unroutable"},
	outbound.ConnectTimeout:   {504, "connection_timeout"},
	outbound.TLSFailed:        {502, "tls_protocol_error"},
	outbound.TLSUntrusted:     {502, "tls_certificate_error"},
	outbound.NoDescriptors:    {503, classLimit},
	outbound.ConnectionFailed: {502, classTerminated},
}

// Errors that the exchange itself finds.
var (
	errClosedEarly = errors.New("the server closed the connection before its answer")
	errTooSlow     = errors.New("the server did not answer in time")
	errSwitch      = errors.New("the server switched protocols unasked")
	errInterim     = errors.New("the server sent too many interim answers")
	errClientGone  = errors.New("the client does not take its answer")
)

// refuse answers the request with what err stands for. This is the one place
// where errors become status codes.
func (x *exchange) refuse(err error) (keep bool) {
	if x.c.gone.Load() {
		x.rec.Error = classClientGone
		return false
	}
	var out *outbound.Error
	var bad *http1.Error
	var target *targetError
	switch {
	case errors.As(err, &out) && out.Kind == outbound.Denied:
		x.ask = x.denial()
	case errors.As(err, &out):
		a := outboundAnswers[out.Kind]
		x.ask = refusal{status: a.status, class: a.class, details: err.Error()}
	case errors.As(err, &target):
		x.ask = refusal{status: 400, class: classRequest, details: err.Error()}
	case errors.As(err, &bad): // the server's: refuseMessage answers the client's
		x.ask = refusal{status: 502, class: classProtocol, details: "the server's answer: " + x.answerFault(bad)}
	case err == errInterim:
		x.ask = refusal{status: 502, class: classProtocol, details: fmt.Sprintf(
			"the server's answer: interim answers (1xx) of more than %d bytes (--max-answer-head)", x.c.srv.AnswerHead.MaxHead)}
	case err == errTooSlow:
		x.ask = refusal{status: 504, class: classTimeout, details: err.Error()}
	case err == errSwitch:
		x.ask = refusal{status: 502, class: classProtocol, details: err.Error()}
	default:
		x.ask = refusal{status: 502, class: classTerminated, details: err.Error()}
	}
	return x.answer()
}

// answerFault says what is wrong with an answer, and by which setting.
func (x *exchange) answerFault(bad *http1.Error) string {
	lim := x.c.srv.AnswerHead
	switch bad {
	case http1.ErrHeadTooLarge:
		return fmt.Sprintf("head larger than %d bytes (--max-answer-head)", lim.MaxHead)
	case http1.ErrTooManyFields:
		return fmt.Sprintf("more than %d header fields (--max-answer-fields)", lim.MaxFields)
	}
	return bad.Msg
}

// denial tells which part of the policy denied the request.
func (x *exchange) denial() refusal {
	d := x.rec.Decision
	r := refusal{status: 403, class: classDenied, phrase: "Egress denied: " + x.decidedBy()}
	if d.ByAddr && !x.wanted.Target.Host.IsAddr() || d.Kind == acl.ReasonGuard || d.ByAddr && d.Rule > 0 {
		r.class = classProhibited
	}
	if x.wanted.Target.Host.IsAddr() && d.Kind == acl.ReasonDefault {
		r.advice = "Rules for names never match an address. If the client resolves names by itself (gRPC does), let the proxy do it, or allow the address."
	}
	return r
}

// decidedBy is the reason of the decision as clients may see it.
func (x *exchange) decidedBy() string {
	d := x.rec.Decision
	if x.tenant().HideRules {
		d.Text, d.Source = "", ""
	}
	if d.Kind == acl.ReasonDefault {
		return "no rule allows it"
	}
	return strings.TrimRight(d.Reason(), " ")
}

// refuseMessage answers a request that must not be processed further.
func (x *exchange) refuseMessage(bad *http1.Error) bool {
	x.ask = refusal{status: bad.Status, class: classRequest, details: bad.Msg, close: true}
	x.rec.Details = bad.Msg
	return x.answer()
}

// refuseSlowHead answers a client that took too long over its head.
func (x *exchange) refuseSlowHead() bool {
	x.ask = refusal{status: 408, class: classRequest, close: true,
		details: "no whole request head within " + x.c.srv.HeadTimeout.String()}
	return x.answer()
}

// refuseOriginForm answers whoever takes the proxy for a web server.
func (x *exchange) refuseOriginForm() bool {
	host := string(x.req.Host)
	if host == "" {
		host = x.c.tcp.Local().String()
	}
	x.ask = refusal{status: 400, class: classRequest,
		details: "this is a proxy, not a web server",
		advice:  "Set http_proxy=http://" + host + " and https_proxy=http://" + host + ", or try: curl -x http://" + host + " https://example.com/"}
	return x.answer()
}

// answerOptions answers OPTIONS for the proxy itself (RFC 9110 section 9.3.7).
func (x *exchange) answerOptions() bool {
	x.ask = refusal{status: 200, allow: true}
	return x.answer()
}

// refuse tells a client that it came on top of a limit, and reads what it had
// sent, within bounds, so that the answer is not lost to a reset.
func (c *conn) refuse(limit metrics.Refusal) {
	defer c.tcp.Close()
	select {
	case c.srv.lingering <- struct{}{}:
		defer func() { <-c.srv.lingering }()
	default:
		return // too many to be told apart
	}
	c.tcp.SetDeadline(time.Now().Add(2 * time.Second))
	x := exchanges.Get().(*exchange)
	x.begin(c)
	x.ask = refusal{status: 503, class: classLimit, details: "the proxy is at its limit of client connections", close: true}
	if limit == metrics.TooManyFromClient {
		x.ask = refusal{status: 429, class: classRequest, details: "too many connections from this client", close: true}
	}
	x.answer()
	x.end()
	c.lingerRefused()
}

// revive makes a connection usable again that a time limit has cut, so that the
// client is told. One that was cut to end a drain stays cut.
func (c *conn) revive() {
	if c.deadline.Load() == expired && !c.srv.cutting.Load() && !c.gone.Load() {
		c.deadline.Store(0)
		c.tcp.SetDeadline(time.Time{})
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

// statusText is the standard phrase of a status code.
func statusText(status int) string { return http.StatusText(status) }
