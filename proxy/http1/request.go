package http1

import "bytes"

// Request is a parsed request head. The zero value is ready for use; use one
// for all requests of a connection, so that what it allocated is used again.
type Request struct {
	Head
	Method      []byte
	Target      []byte // as sent: authority, absolute, origin or asterisk form
	Host        []byte // value of the Host field, nil when absent
	Expect      bool   // Expect: 100-continue
	MaxForwards int    // -1 when absent
}

// Reset forgets the request, for the next one of the connection.
func (r *Request) Reset() {
	h := r.Head
	h.reset()
	*r = Request{Head: h}
}

// Parse reads a request head from the start of b and returns its length. With
// ErrIncomplete the caller adds to b, which must keep what it had, and calls
// again without Reset; any other error is an *Error, and what it found of the
// method and the target is set for the log, though never to be acted upon.
// Empty lines before a request are for the caller to skip (SkipEmptyLines).
func (r *Request) Parse(b []byte, lim Limits) (int, error) {
	if len(b) > 0 && class[b[0]]&isToken == 0 {
		return 0, otherProtocol(b[0]) // no need to wait for the end
	}
	n, err := r.parse(b, lim, r.parseLine)
	if err != nil {
		return 0, err
	}
	return n, r.finish()
}

// otherProtocol says what a client speaks whose first byte begins no request: a TLS
// handshake (RFC 8446 section 5.1), SOCKS (RFC 1928 section 3), or no one knows what.
func otherProtocol(first byte) error {
	switch first {
	case 0x16:
		return errTLS
	case 4:
		return errSOCKS4
	case 5:
		return errSOCKS5
	}
	return errRequestLine
}

func (r *Request) parseLine(line []byte) error {
	sp := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if sp <= 0 || last == sp {
		return errRequestLine
	}
	method, target, version := line[:sp], line[sp+1:last], line[last+1:]
	if !all(method, isToken) {
		return errMethod
	}
	if len(target) == 0 || !all(target, isTarget) {
		return errTarget
	}
	r.Method, r.Target = method, target
	minor, err := parseVersion(version)
	r.Minor = minor
	return err
}

// parseVersion takes HTTP/1.0 and HTTP/1.1. Other versions in the right form are
// told apart, since 505 tells a client more than 400.
func parseVersion(v []byte) (minor int, err error) {
	switch string(v) {
	case "HTTP/1.1":
		return 1, nil
	case "HTTP/1.0":
		return 0, nil
	}
	if len(v) == 8 && string(v[:5]) == "HTTP/" && v[6] == '.' &&
		v[5] >= '0' && v[5] <= '9' && v[7] >= '0' && v[7] <= '9' {
		return 0, errVersion
	}
	return 0, errVersionForm
}

// finish checks what holds for requests only.
func (r *Request) finish() error {
	if r.misframed != nil {
		return r.misframed
	}
	r.MaxForwards = -1
	hosts := 0
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.ID {
		case Host:
			hosts++
			r.Host = f.Value
		case Expect:
			asked, err := expects(f.Value)
			if err != nil {
				return err
			}
			f.Dropped = f.Dropped || !asked // it asks for nothing
			r.Expect = r.Expect || asked && r.Minor == 1
		case MaxForwards:
			n, ok := parseDigits(f.Value, 1<<30)
			if !ok || r.MaxForwards >= 0 {
				return errMaxForwards
			}
			r.MaxForwards = int(n)
		}
	}
	connect := string(r.Method) == "CONNECT"
	switch {
	case hosts > 1:
		return errTwoHosts
	case hosts == 1 && !validHost(r.Host):
		return errHostValue
	case hosts == 0 && r.Minor == 1 && !connect:
		return errNoHost
	case connect && (r.chunked || r.Length > 0):
		return errConnectBody
	case string(r.Method) == "TRACE" && (r.chunked || r.Length > 0):
		return errTraceBody
	}
	switch {
	case r.chunked:
		r.Framing = ChunkedEnc
	case r.Length > 0:
		r.Framing = Length
	}
	return nil
}

// expects reports whether an Expect field asks for 100-continue, the one expectation
// there is (RFC 9110 section 10.1.1). One without a member asks for nothing.
func expects(list []byte) (asked bool, err error) {
	for len(list) > 0 {
		var item []byte
		switch item, list = nextListItem(list); {
		case len(item) == 0:
		case equalFold(item, "100-continue"):
			asked = true
		default:
			return false, errExpect
		}
	}
	return asked, nil
}

// validHost reports whether v could be a Host field (RFC 3986 host and port): the
// field is replaced by the target's authority, so only its bytes are judged.
func validHost(v []byte) bool {
	for _, c := range v {
		if class[c]&isToken == 0 && bytes.IndexByte([]byte(":[]()=,;@"), c) < 0 {
			return false
		}
	}
	return true
}

// SkipEmptyLines returns how many bytes of empty lines stand before a request:
// RFC 9112 section 2.2 asks a server to pass over at least one, which some
// clients send behind the body of a POST. At most two are passed over.
func SkipEmptyLines(b []byte) int {
	n := 0
	for n < 4 && len(b) >= n+2 && b[n] == '\r' && b[n+1] == '\n' {
		n += 2
	}
	return n
}

// CameThrough reports whether Via names a proxy of that pseudonym (RFC 9110 section 7.6.3).
func (r *Request) CameThrough(name string) bool {
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != Via {
			continue
		}
		for _, word := range bytes.FieldsFunc(f.Value, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
			if string(word) == name {
				return true
			}
		}
	}
	return false
}
