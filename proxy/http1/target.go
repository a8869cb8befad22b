package http1

import "bytes"

// Form is one of the four forms of a request target (RFC 9112 section 3.2).
type Form uint8

const (
	NoForm        Form = iota
	OriginForm         // "/path?query": what an origin server is asked
	AbsoluteForm       // "http://host/path": what a proxy is asked
	AuthorityForm      // "host:port": CONNECT
	AsteriskForm       // "*": OPTIONS
)

// Target is a request target taken apart. The slices point into the request.
type Target struct {
	Form      Form
	Scheme    string // "http" or "https"; with AbsoluteForm only
	Authority []byte // with AbsoluteForm and AuthorityForm; not judged here
	Path      []byte // path and query; empty when the target has neither
}

var (
	errForm       = &Error{400, "malformed request target"}
	errScheme     = &Error{400, "scheme other than http and https"}
	errNoHostPart = &Error{400, "no authority in the request target"}
	errAuthority  = &Error{400, "CONNECT wants host:port"}
)

// ParseTarget takes the target of r apart. A path goes on to the server as it is, and
// what it means is the server's business: a % alone too.
func (r *Request) ParseTarget() (t Target, err error) {
	raw := r.Target
	switch {
	case string(r.Method) == "CONNECT":
		if len(raw) == 0 || bytes.IndexByte(raw, '/') >= 0 {
			return t, errAuthority
		}
		return Target{Form: AuthorityForm, Authority: raw}, nil
	case string(raw) == "*":
		if string(r.Method) != "OPTIONS" {
			return t, errForm
		}
		return Target{Form: AsteriskForm}, nil
	case raw[0] == '/':
		t = Target{Form: OriginForm, Path: raw}
	default:
		i := bytes.Index(raw, []byte("://"))
		if i <= 0 {
			return t, errForm
		}
		t = Target{Form: AbsoluteForm}
		switch {
		case equalFold(raw[:i], "http"):
			t.Scheme = "http"
		case equalFold(raw[:i], "https"):
			t.Scheme = "https"
		default:
			return Target{}, errScheme
		}
		rest := raw[i+3:]
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		if end == 0 {
			return Target{}, errNoHostPart
		}
		t.Authority, t.Path = rest[:end], rest[end:]
	}
	return t, nil
}
