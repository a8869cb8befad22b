// Package answer composes what the proxy says to a client: answers of its own, with a page
// for a person, and the heads of what servers answer. It is bytes in, bytes out.
package answer

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

// Own is an answer of the proxy's own, before it is written out. Its zero value is none.
type Own struct {
	Status    int
	Class     string // ClassDenied …; "" when nothing went wrong
	Phrase    string // reason phrase: all that a CONNECT client shows its user; "": made of Status and Details
	Details   string // for Proxy-Status; "": the phrase
	Advice    string // a sentence for a person, "" for none
	DecidedBy string // the part of the policy that denied the request; "": none did
	Allow     bool   // answers OPTIONS: has an Allow field
	Close     bool   // the connection cannot be used again
	// RetryAfter is when the same request may fare better, in seconds; 0: that is not known.
	RetryAfter int
	Challenge  string // Proxy-Authenticate fields, as lines of a head; "": none
}

// Failed tells that a request has failed on the way to its server, or on the way back.
func Failed(class, details string) Own {
	return Own{Status: statusOf(class), Class: class, Details: details}
}

// Denied tells which part of the policy has denied a request to host. hideRules leaves out
// the text of the rule and where it stands.
func Denied(d acl.Decision, host acl.Host, hideRules bool) Own {
	by := decidedBy(d, hideRules)
	o := Own{Status: 403, Class: ClassDenied, Phrase: "Egress denied: " + by, DecidedBy: by}
	if d.ByAddr && !host.IsAddr() || d.Kind == acl.ReasonGuard || d.ByAddr && d.Rule > 0 {
		o.Class = ClassProhibited
	}
	if host.IsAddr() && d.Kind == acl.ReasonDefault {
		o.Advice = "Rules for names never match an address. If the client resolves names by itself (gRPC does), let the proxy do it, or allow the address."
	}
	return o
}

// RequestDenied tells which request rule has denied a request, or why it was denied whatever
// they say, if that is not nil.
func RequestDenied(d request.Decision, why error, hideRules bool) Own {
	if hideRules {
		d.Text, d.Source = "", ""
	}
	by := strings.TrimRight(d.String(), " ")
	if why != nil {
		by = why.Error()
	}
	return Own{Status: 403, Class: ClassDenied, Phrase: "Egress denied: " + by, DecidedBy: by}
}

// BodyTooLarge tells that a request's body is larger than its host lets it be.
func BodyTooLarge(details string) Own {
	return Own{Status: 413, Class: ClassRequest, Details: details, Close: true}
}

// Unclaimed tells a client that nobody has said anything of such as it.
func Unclaimed() Own {
	o := Own{Status: 403, Class: ClassDenied, Phrase: "Egress denied: this client is no tenant's", DecidedBy: "this client is no tenant's"}
	o.Advice = "Have the gateway's configuration name this client's address among the clients of a tenant."
	return o
}

// Unauthenticated asks a client to show who it is (RFC 9110 section 15.5.8).
func Unauthenticated(details, challenge string) Own {
	return Own{Status: 407, Class: ClassDenied, Details: details, Challenge: challenge,
		Advice: "Give the proxy's address with a user and a password: http://USER:PASSWORD@HOST:PORT."}
}

// OverLimit tells a client that its tenant is over a limit, and when to come again.
func OverLimit(details string, after time.Duration) Own {
	seconds := int((after + time.Second - 1) / time.Second)
	return Own{Status: 429, Class: ClassLimit, Details: details, RetryAfter: max(1, seconds)}
}

// decidedBy is the reason of the decision as clients may see it.
func decidedBy(d acl.Decision, hideRules bool) string {
	if hideRules {
		d.Text, d.Source = "", ""
	}
	if d.Kind == acl.ReasonDefault {
		return "no rule allows it"
	}
	return strings.TrimRight(d.Reason(), " ")
}

// BadRequest answers a request that must not be processed further.
func BadRequest(bad *http1.Error) Own {
	return Own{Status: bad.Status, Class: ClassRequest, Details: bad.Msg, Close: true}
}

// BadAnswer tells that a server's answer must not go on, and by which setting it is over lim.
func BadAnswer(bad *http1.Error, lim http1.Limits) Own {
	fault := bad.Msg
	switch bad {
	case http1.ErrHeadTooLarge:
		fault = fmt.Sprintf("head larger than %d bytes (--max-answer-head)", lim.MaxHead)
	case http1.ErrTooManyFields:
		fault = fmt.Sprintf("more than %d header fields (--max-answer-fields)", lim.MaxFields)
	}
	return Failed(ClassProtocol, "the server's answer: "+fault)
}

// EndlessInterim tells that the interim answers are over lim, all together.
func EndlessInterim(lim http1.Limits) Own {
	return Failed(ClassProtocol, fmt.Sprintf("the server's answer: interim answers (1xx) of more than %d bytes (--max-answer-head)", lim.MaxHead))
}

// SlowHead answers a client that took longer than limit over its head.
func SlowHead(limit time.Duration) Own {
	return Own{Status: 408, Class: ClassRequest, Details: "no whole request head within " + limit.String(), Close: true}
}

// SlowBody answers a client that took too long over its body.
func SlowBody() Own {
	return Own{Status: 408, Class: ClassRequest, Details: "the request body came too slowly", Close: true}
}

// NoOrigin answers whoever takes the proxy, which it reached as host, for a web server.
func NoOrigin(host string) Own {
	o := Failed(ClassRequest, "this is a proxy, not a web server")
	o.Advice = "Set http_proxy=http://" + host + " and https_proxy=http://" + host + ", or try: curl -x http://" + host + " https://example.com/"
	return o
}

// Full answers a client that finds no place.
func Full() Own {
	return Own{Status: 503, Class: ClassLimit, Details: "the proxy is at its limit of client connections", Close: true}
}

// FullForClient answers a client that has as many connections as it may.
func FullForClient() Own {
	return Own{Status: 429, Class: ClassRequest, Details: "too many connections from this client", Close: true}
}

// Options answers OPTIONS for the proxy itself (RFC 9110 section 9.3.7).
func Options() Own { return Own{Status: 200, Allow: true} }

// phrase is the reason phrase of o.
func (o *Own) phrase() string {
	if o.Phrase != "" {
		return o.Phrase
	}
	s := statusText(o.Status)
	if o.Details != "" {
		s += ": " + o.Details
	}
	return s
}

// details is what Proxy-Status says of o.
func (o *Own) details() string {
	if o.Details != "" {
		return o.Details
	}
	return o.Phrase
}

// statusText is the standard phrase of a status code.
func statusText(status int) string { return http.StatusText(status) }
