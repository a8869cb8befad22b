package proxy

import (
	"bytes"
	"errors"
)

// What a request gets, and is asked, at a host of which the policy says more than where it is.

// replaceFields drops the fields of the request that appendCredentials writes, and an upgrade to
// what could carry other requests past the rules: HTTP/2 by h2c, and whatever has no name yet.
func (x *exchange) replaceFields() {
	x.put = nil
	in := x.ticket.Inspected
	if x.inspected = in != nil; !x.inspected {
		return
	}
	if !bytes.EqualFold(x.req.Upgrade, []byte("websocket")) {
		x.req.Upgrade = nil
	}
	if len(in.Headers) == 0 || !x.wanted.ByTLS {
		return
	}
	x.put = in
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		for j := range in.Headers {
			if in.Headers[j].Is(f.Name) {
				f.Dropped = true
			}
		}
	}
}

// appendCredentials writes the fields that the policy puts into the request.
func (x *exchange) appendCredentials(b []byte) []byte {
	if x.put == nil {
		return b
	}
	for i := range x.put.Headers {
		h := &x.put.Headers[i]
		b = append(append(b, h.Name...), ": "...)
		b = append(h.AppendValue(b), "\r\n"...)
	}
	return b
}

// These are the errors of an answer that would give a credential away, in its head or behind that.
var (
	errShows       = errors.New("the head of the server's answer shows the credential that was put into the request")
	errShowsBehind = errors.New("what frames the server's answer, or its trailer section, shows the credential that was put into the request")
)

// shows reports whether a head shows what the client is not to have, or what frames a body and the
// trailer section behind it.
func (x *exchange) shows(part []byte) bool { return x.put != nil && x.put.ShownBy(part) }
