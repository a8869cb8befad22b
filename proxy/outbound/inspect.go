package outbound

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// inspect asks what a request may do at a host where that is said. A CONNECT, by whatever
// protocol, may not do anything yet: what is in the tunnel is asked about when it comes.
func (t *Ticket) inspect(r *Request) error {
	if r.HTTP == nil && r.Login == nil || t.Tenant.Inspect == nil {
		return nil
	}
	connect := r.HTTP == nil || string(r.HTTP.Method) == "CONNECT"
	in := t.Tenant.Inspect.Of(r.Target, connect || r.ByTLS)
	if t.Inspected = in; in == nil {
		if (connect || r.ByTLS) && t.Tenant.Inspect.Elsewhere(r.Target) {
			t.Asked = true
			return ErrElsewhere
		}
		return nil
	}
	if connect {
		if t.Tenant.Inspect.Certificate == nil {
			t.Asked = true
			return &Error{Kind: RequestDenied, Err: errors.New("what is in a tunnel to this host is asked about, and there is no CA to open it with (caCert of inspect)")}
		}
		return nil
	}
	t.Asked = true
	t.Request = in.Requests.Decide(string(r.HTTP.Method), string(origin(r.HTTP.Method, r.Path)))
	switch {
	case t.Request.Reason == request.Malformed:
		return &Error{Kind: RequestMalformed, Err: errors.New(t.Request.String())}
	case overrides(r.HTTP) != "":
		t.Request.Verdict = acl.Deny
		return &Error{Kind: RequestMalformed, Err: fmt.Errorf("the field %s overrides what the rules judge", overrides(r.HTTP))}
	case t.Request.Verdict != acl.Allow:
		return errRequestDenied
	}
	if in.MaxBody > 0 && r.HTTP.Framing == http1.Length && r.HTTP.Length > in.MaxBody {
		return tooLarge(in)
	}
	t.Route.credential = in.Credential()
	if err := credentials(in, r); err != nil {
		t.Request.Verdict = acl.Deny
		return err
	}
	return nil
}

// tooLarge is the error of a request whose body is larger than its host lets it be.
func tooLarge(in *policy.Inspected) error {
	return &Error{Kind: BodyTooLarge, Err: fmt.Errorf("a body of more than %d bytes (maxBody of %s)", in.MaxBody, in.Host)}
}

// BodyTooLarge is the error of a request whose body turns out to be larger than it may be; nil
// for one of n bytes that is not.
func (t *Ticket) BodyTooLarge(n int64) error {
	if in := t.Inspected; in != nil && in.MaxBody > 0 && n > in.MaxBody {
		return tooLarge(in)
	}
	return nil
}

// credentials refuses what would give away the values that are put into requests.
func credentials(in *policy.Inspected, r *Request) error {
	if len(in.Headers) == 0 {
		return nil
	}
	if !r.ByTLS {
		return &Error{Kind: RequestDenied, Err: errors.New("credentials are put in for this host, which go by TLS only; ask for https")}
	}
	if !in.Browsers && foreign(r) {
		return &Error{Kind: RequestDenied, Err: errors.New("a page of another origin asks, and credentials would be put in (browsers: true allows it)")}
	}
	for i := range in.Headers {
		if in.Headers[i].Problem != nil { // which has a path in it, and is in the log
			return &Error{Kind: NoCredential, Err: fmt.Errorf("the gateway has no value for %s now", in.Headers[i].Name)}
		}
	}
	return nil
}

// foreign reports whether a browser says that a page of another origin makes the request.
func foreign(r *Request) bool {
	for i := range r.HTTP.Fields {
		f := &r.HTTP.Fields[i]
		switch {
		case policy.SameField(f.Name, "sec-fetch-site"):
			if string(f.Value) == "cross-site" {
				return true
			}
		case policy.SameField(f.Name, "origin"):
			host, secure := bytes.CutPrefix(f.Value, []byte("https://"))
			t, err := acl.ParseTarget(withPort(host))
			if !secure || err != nil || t != r.Target {
				return true
			}
		}
	}
	return false
}

// withPort is an authority with the port of https, unless it has one.
func withPort(b []byte) string {
	if i := bytes.LastIndexByte(b, ':'); i > bytes.LastIndexByte(b, ']') {
		return string(b)
	}
	return string(b) + ":443"
}

// origin is the target of a request in origin form, as it will be sent.
func origin(method, path []byte) []byte {
	switch {
	case string(method) == "OPTIONS" && (len(path) == 0 || string(path) == "*"):
		return []byte("*")
	case len(path) == 0 || path[0] != '/':
		return append([]byte("/"), path...)
	}
	return path
}

// overriding are fields by which servers take another method or path than those that stand in
// the request line.
var overriding = []string{"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url",
	"x-original-uri", "x-original-method", "x-forwarded-uri", "x-forwarded-path", "x-forwarded-method"}

// overrides names a field that has a server do something else than what is judged, "" none.
func overrides(r *http1.Request) string {
	for i := range r.Fields {
		for _, name := range overriding {
			if policy.SameField(r.Fields[i].Name, name) {
				return string(r.Fields[i].Name)
			}
		}
	}
	return ""
}

// Refuses reports whether a field of that name may not stand behind the body of a request that t has
// admitted: in a trailer it would come where nobody has looked.
func (t *Ticket) Refuses(name []byte) bool {
	if t.Inspected == nil {
		return false
	}
	for _, o := range overriding {
		if policy.SameField(name, o) {
			return true
		}
	}
	for i := range t.Inspected.Headers {
		if t.Inspected.Headers[i].Is(name) {
			return true
		}
	}
	return false
}
