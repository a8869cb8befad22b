package http1

// Response is a parsed response head. The zero value is ready for use.
type Response struct {
	Head
	Status int
	Reason []byte
}

// Reset forgets the response, for the next one of the connection.
func (r *Response) Reset() {
	h := r.Head
	h.reset()
	*r = Response{Head: h}
}

// Parse reads a response head from the start of b and returns its length; toHead
// says that it answers a HEAD request, and so has no body whatever its fields
// say. ErrIncomplete and errors are as for Request.Parse. White space before a colon
// is passed over (RFC 9112 section 5.1).
func (r *Response) Parse(b []byte, toHead bool, lim Limits) (int, error) {
	n, err := r.ParseToConnect(b, lim)
	if err != nil {
		return 0, err
	}
	return n, r.frame(toHead)
}

// ParseToConnect is Parse for an answer to CONNECT, whose fields frame no body (RFC 9110 section 9.3.6):
// what comes behind a 2xx is the tunnel's, and behind another the connection is of no use.
func (r *Response) ParseToConnect(b []byte, lim Limits) (int, error) {
	r.lenient = true
	if len(b) > 0 && b[0] != 'H' {
		return 0, errStatusLine
	}
	return r.parse(b, lim, r.parseLine)
}

// parseLine takes a status line. The reason phrase may be empty, and servers
// leave out the space before an empty one.
func (r *Response) parseLine(line []byte) (err error) {
	if len(line) < len("HTTP/1.1 200") || line[8] != ' ' {
		return errStatusLine
	}
	if r.Minor, err = parseVersion(line[:8]); err != nil {
		return err
	}
	code, rest := line[9:12], line[12:]
	n, ok := parseDigits(code, 999)
	if !ok || n < 100 {
		return errStatusCode
	}
	if len(rest) > 0 && rest[0] != ' ' {
		return errStatusLine
	}
	rest = trimOWS(rest)
	if !all(rest, isValue) {
		return errStatusLine
	}
	r.Status, r.Reason = int(n), rest
	return nil
}

// frame finds where the body ends (RFC 9112 section 6.3).
func (r *Response) frame(toHead bool) error {
	switch {
	case r.Status < 200 || r.Status == 204:
		// It ends here, whatever its fields say. A server must not send any that frame a
		// body: one that does may send the body too, and then the next answer would begin
		// in the middle of it.
		if r.chunked || r.lengthField != nil {
			r.KeepAlive, r.chunked, r.lengthField, r.Length = false, false, nil, 0
		}
	case r.misframed != nil:
		return r.misframed
	case toHead || r.Status == 304:
	case r.chunked:
		r.Framing = ChunkedEnc
	case r.lengthField == nil:
		r.Framing = UntilClose
		r.KeepAlive = false
	case r.Length > 0:
		r.Framing = Length
	}
	return nil
}

// HasLength reports whether the head carries a Content-Length.
func (r *Response) HasLength() bool { return r.lengthField != nil }

// ChunkedField reports whether the head carries Transfer-Encoding: chunked,
// which a response to HEAD may do with no body behind it.
func (r *Response) ChunkedField() bool { return r.chunked }
