package proxy

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// composeRequest puts the request for the server into x.out, with as much of the
// body as has come, and into x.body what is to be done about the rest.
func (x *exchange) composeRequest() error {
	r := &x.req
	x.replaceFields()
	b := append(x.out[:0], r.Method...)
	b = append(b, ' ')
	b = x.appendTarget(b)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = x.appendAuthority(b)
	b = append(b, "\r\n"...)
	x.loginAt, x.loginLen = len(b), 0
	// http1 has refused what could frame a body in two ways, so the Content-Length
	// line goes as it came.
	b = r.AppendFields(b, http1.Host, http1.MaxForwards, x.forwardedField())
	b = x.appendCredentials(b)
	if in := x.c.inside; in != nil && in.h2 {
		b = append(b, "Via: 2 "...)
	} else {
		b = append(b, "Via: 1."...)
		b = append(b, '0'+byte(r.Minor), ' ')
	}
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
	return x.appendBody()
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

// appendTarget writes the request's target: for a server its path, for a parent proxy that is to
// send the request on also where (RFC 9112 section 3.2.2).
func (x *exchange) appendTarget(b []byte) []byte {
	if x.absolute = x.ticket.Route.Absolute(); !x.absolute {
		return x.appendPath(b)
	}
	b = x.appendAuthority(append(b, "http://"...))
	if path := x.target.Path; string(x.req.Method) == "OPTIONS" && (len(path) == 0 || string(path) == "*") {
		return b // the last proxy makes it * (RFC 9112 section 3.2.4)
	}
	return x.appendPath(b)
}

// showLogin puts what x.up, a parent, is to be shown into the request that is composed, in the place of
// what another was shown.
func (x *exchange) showLogin() {
	line := x.up.Parent().AppendLogin(nil)
	x.out = slices.Replace(x.out, x.loginAt, x.loginAt+x.loginLen, line...)
	x.loginLen = len(line)
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
	b = x.c.Client().AppendTo(b)
	return append(b, "\r\n"...)
}
