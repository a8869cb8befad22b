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

	lengthField []byte // value of Content-Length, nil when absent
	chunked     bool
	named       [][]byte // what Connection names and no rule of ours covers
	scanned     int      // bytes already searched for the end of the head
	line        int      // where the line that is being searched starts
}

// reset makes h ready for the next head; what Fields and named had allocated is
// kept.
func (h *Head) reset() {
	f, n := h.Fields[:0], h.named[:0]
	*h = Head{Fields: f, named: n}
}

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
				return 0, errHeadTooLarge
			}
			return 0, ErrIncomplete
		}
		i += h.scanned
		if i == 0 || b[i-1] != '\r' {
			return 0, errBareLF
		}
		if i >= lim.MaxHead {
			return 0, errHeadTooLarge
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
			return errTooManyField
		}
		if line[0] == ' ' || line[0] == '\t' {
			return errFolded
		}
		name, value, err := splitField(line)
		if err != nil {
			return err
		}
		h.Fields = append(h.Fields, Field{ID: identify(name), Name: name, Value: value, Line: raw})
		b = b[i+1:]
	}
}

// splitField takes a field line apart (RFC 9112 section 5).
func splitField(line []byte) (name, value []byte, err error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return nil, nil, errFieldName
	}
	name = line[:colon]
	if !all(name, isToken) {
		if c := name[colon-1]; c == ' ' || c == '\t' {
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

// interpret draws from the fields what both kinds of head need: framing and
// the fate of the connection.
func (h *Head) interpret() error {
	var seenCoding bool
	var conn connOptions
	var upgrade []byte
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.ID {
		case ContentLength:
			if h.lengthField != nil {
				return errTwoLengths
			}
			n, ok := parseDigits(f.Value, math.MaxInt64)
			if !ok {
				return errLength
			}
			h.lengthField, h.Length = f.Value, n
		case TransferEncoding:
			if seenCoding || !equalFold(f.Value, "chunked") {
				return errCoding
			}
			seenCoding = true
		case Connection, ProxyConnection:
			if err := h.connection(f, &conn); err != nil {
				return err
			}
		case Upgrade:
			upgrade = f.Value
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
	h.chunked = seenCoding
	if h.chunked && h.lengthField != nil {
		return errLengthCoding
	}
	if h.chunked && h.Minor == 0 {
		return errCoding10
	}
	if conn.upgrade && len(upgrade) > 0 && h.Minor == 1 {
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
// is not acted upon.
func (h *Head) connection(f *Field, o *connOptions) error {
	for list := f.Value; len(list) > 0; {
		var item []byte
		item, list = nextListItem(list)
		switch {
		case len(item) == 0:
		case !all(item, isToken):
			return errConnection
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
	return nil
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
				h.Fields[i].Named = true
			}
		}
	}
}

// AppendFields appends to dst the lines of the fields that travel: not those
// that are hop by hop, not those that Connection names, and none of the kinds in
// except, which the caller writes itself.
func (h *Head) AppendFields(dst []byte, except ...FieldID) []byte {
next:
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Named || f.ID.hopByHop() {
			continue
		}
		for _, id := range except {
			if f.ID == id {
				continue next
			}
		}
		dst = append(dst, f.Line...)
	}
	return dst
}
