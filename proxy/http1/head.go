package http1

import (
	"bytes"
	"math"
)

// Limits bound one head. Both must be positive.
type Limits struct {
	MaxHead   int // bytes, start line and final CRLF included
	MaxFields int
}

// Framing says where a body ends (RFC 9112 section 6.3).
type Framing uint8

const (
	NoBody     Framing = iota
	Length             // Head.Length bytes follow
	ChunkedEnc         // a [Chunked] tells
	UntilClose         // responses only: the end of the connection ends it
)

// Head is what a request and a response have in common. The slices point into
// the buffer given to Parse.
type Head struct {
	Fields    []Field
	Minor     int // the x of HTTP/1.x
	Framing   Framing
	Length    int64  // with Framing Length, at least 1
	KeepAlive bool   // the sender is willing to use the connection again
	Upgrade   []byte // the value of Upgrade, when Connection names it too; else nil
	Trailers  bool   // the sender can take trailers: TE: trailers
	// ConnAuth says that Authorization or WWW-Authenticate is of a scheme that authenticates
	// the connection to the server, and so whatever comes over it: NTLM or Negotiate (RFC
	// 4559 section 6).
	ConnAuth bool

	lenient     bool   // it is an answer's: see Response.Parse
	lengthField []byte // value of Content-Length, nil when absent
	chunked     bool
	misframed   error    // why the fields don't say beyond doubt where the body ends
	named       [][]byte // what Connection names and no rule of ours covers
	scanned     int      // bytes already searched for the end of the head
	line        int      // where the line that is being searched starts
}

// reset makes h ready for the next head; what Fields and named had allocated is
// kept, unless that was much.
func (h *Head) reset() {
	f, n := h.Fields[:0], h.named[:0]
	if cap(f) > keepFields || cap(n) > keepFields {
		f, n = nil, nil
	}
	*h = Head{Fields: f, named: n}
}

// keepFields is how much room for fields is kept for the next head.
const keepFields = 256

// Forget lets go of the fields, and with them of the buffer that they are in; the rest of
// what was parsed stays.
func (h *Head) Forget() { h.Fields, h.named, h.lengthField = nil, nil, nil }

// Get returns the first field of the kind, nil if there is none.
func (h *Head) Get(id FieldID) []byte {
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			return h.Fields[i].Value
		}
	}
	return nil
}

// end looks for the empty line that ends a head and returns the length of the
// head. It goes on where the call before stopped, so that a head that comes a
// byte at a time costs no more than one that comes at once.
func (h *Head) end(b []byte, lim Limits) (int, error) {
	for {
		i := bytes.IndexByte(b[h.scanned:], '\n')
		if i < 0 {
			h.scanned = len(b)
			if len(b) >= lim.MaxHead {
				return 0, ErrHeadTooLarge
			}
			return 0, ErrIncomplete
		}
		i += h.scanned
		if i == 0 || b[i-1] != '\r' {
			return 0, errBareLF
		}
		if i >= lim.MaxHead {
			return 0, ErrHeadTooLarge
		}
		empty := i-1 == h.line && h.line > 0
		h.scanned, h.line = i+1, i+1
		if empty {
			return i + 1, nil
		}
	}
}

// parse reads a head from the start of b; startLine takes its first line.
func (h *Head) parse(b []byte, lim Limits, startLine func([]byte) error) (int, error) {
	n, err := h.end(b, lim)
	if err != nil {
		return 0, err
	}
	eol := bytes.IndexByte(b, '\n')
	if err := startLine(b[:eol-1]); err != nil {
		return 0, err
	}
	if err := h.parseFields(b[eol+1:n], lim); err != nil {
		return 0, err
	}
	return n, h.interpret()
}

// parseFields reads the field lines in b, which ends behind the empty line.
func (h *Head) parseFields(b []byte, lim Limits) error {
	for {
		i := bytes.IndexByte(b, '\n')
		line, raw := b[:i-1], b[:i+1] // end has seen that every LF follows a CR
		if len(line) == 0 {
			return nil
		}
		if len(h.Fields) >= lim.MaxFields {
			return ErrTooManyFields
		}
		if line[0] == ' ' || line[0] == '\t' {
			return errFolded
		}
		name, value, err := splitField(line, h.lenient)
		if err != nil {
			return err
		}
		padded := line[len(name)] != ':'
		h.Fields = append(h.Fields, Field{ID: identify(name), padded: padded, Name: name, Value: value, Line: raw})
		b = b[i+1:]
	}
}

// splitField takes a field line apart (RFC 9112 section 5). lenient has it pass over white
// space before the colon.
func splitField(line []byte, lenient bool) (name, value []byte, err error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return nil, nil, errFieldName
	}
	name = line[:colon]
	if lenient {
		name = trimEnd(name)
	}
	if len(name) == 0 || !all(name, isToken) {
		if c := line[colon-1]; !lenient && (c == ' ' || c == '\t') {
			return nil, nil, errColonSpace
		}
		return nil, nil, errFieldName
	}
	value = trimOWS(line[colon+1:])
	if !all(value, isValue) {
		return nil, nil, errFieldValue
	}
	return name, value, nil
}

// doubt keeps the first reason, if there is one, not to believe the framing.
func (h *Head) doubt(there bool, why error) {
	if there && h.misframed == nil {
		h.misframed = why
	}
}

// interpret draws from the fields what both kinds of head need: framing and
// the fate of the connection.
func (h *Head) interpret() error {
	var conn connOptions
	var upgrade []byte
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.ID {
		case ContentLength:
			n, ok := parseDigits(f.Value, math.MaxInt64)
			h.doubt(h.lengthField != nil, errTwoLengths)
			h.doubt(!ok, errLength)
			h.lengthField, h.Length = f.Value, n
		case TransferEncoding:
			h.doubt(h.chunked || !equalFold(f.Value, "chunked"), errCoding)
			h.chunked = true
		case Connection, ProxyConnection:
			h.connection(f, &conn)
		case Authorization, WWWAuthenticate:
			h.ConnAuth = h.ConnAuth || namesConnAuth(f.Value)
		case Upgrade:
			if rest := withoutH2C(f.Value); len(rest) > 0 {
				upgrade = rest
			}
		case Trailer:
			for list := f.Value; len(list) > 0; {
				var item []byte
				if item, list = nextListItem(list); !identify(item).mayTrail() {
					return errTrailer
				}
			}
		case TE:
			h.Trailers = h.Trailers || equalFold(f.Value, "trailers")
		}
	}
	h.doubt(h.chunked && h.lengthField != nil, errLengthCoding)
	h.doubt(h.chunked && h.Minor == 0, errCoding10)
	if conn.upgrade && h.Minor == 1 {
		h.Upgrade = upgrade
	}
	h.KeepAlive = !conn.close && (h.Minor == 1 || conn.keepAlive)
	h.markNamed()
	return nil
}

// connOptions are the connection options that a proxy acts upon.
type connOptions struct{ close, keepAlive, upgrade bool }

// connection reads a Connection field. Proxy-Connection is no standard field,
// but HTTP/1.0 clients of the 1990s and curl still ask by it; what else it names
// is not acted upon. Nor is a member that is no token, as in "Keep-Alive, timeout=15".
func (h *Head) connection(f *Field, o *connOptions) {
	for list := f.Value; len(list) > 0; {
		var item []byte
		item, list = nextListItem(list)
		switch {
		case len(item) == 0 || !all(item, isToken):
		case equalFold(item, "close"):
			o.close = true
		case equalFold(item, "keep-alive"):
			o.keepAlive = true
		case equalFold(item, "upgrade"):
			o.upgrade = true
		case f.ID == Connection:
			h.named = append(h.named, item)
		}
	}
}

// withoutH2C drops "h2c" from the value of an Upgrade field: RFC 9113 took that upgrade
// out, and the settings that would have to go with it do not travel.
func withoutH2C(value []byte) []byte {
	isH2C := func(item []byte) bool { return equalFold(item, "h2c") }
	found := false
	for list := value; len(list) > 0; {
		var item []byte
		item, list = nextListItem(list)
		found = found || isH2C(item)
	}
	if !found {
		return value
	}
	var rest []byte
	for list := value; len(list) > 0; {
		var item []byte
		if item, list = nextListItem(list); len(item) == 0 || isH2C(item) {
			continue
		}
		if len(rest) > 0 {
			rest = append(rest, ", "...)
		}
		rest = append(rest, item...)
	}
	return rest
}

// markNamed flags the fields that Connection names. Fields that carry the
// framing or the target are ours to write, whatever Connection says of them.
func (h *Head) markNamed() {
	for _, name := range h.named {
		id := identify(name)
		if id == Host || id == ContentLength || id == Trailer || id == Via {
			continue
		}
		for i := range h.Fields {
			if bytes.EqualFold(h.Fields[i].Name, name) {
				h.Fields[i].Dropped = true
			}
		}
	}
}

// AppendFields appends to dst the lines of the fields that travel: not those
// that are hop by hop, not those that Connection names, and none of the kinds in
// except, which the caller writes itself. White space before a colon does not travel.
func (h *Head) AppendFields(dst []byte, except ...FieldID) []byte {
next:
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Dropped || f.ID.hopByHop() {
			continue
		}
		for _, id := range except {
			if f.ID == id {
				continue next
			}
		}
		if f.padded {
			dst = appendNeat(dst, f.Line)
			continue
		}
		dst = append(dst, f.Line...)
	}
	return dst
}
