package http1

import "bytes"

// maxChunkLine bounds a chunk-size line with its extensions, and maxTrailers a
// trailer section: a caller's buffer must hold either whole.
const (
	maxChunkLine = 1024
	maxTrailers  = 4096
)

// Chunked follows a chunked body (RFC 9112 section 7.1) through the bytes of a
// connection. The zero value stands before the first chunk of a request. It holds no
// data: the bytes may go on as they are, since what it accepts has one reading only,
// but for what Neat tells.
type Chunked struct {
	// Refuses says of trailer fields of that name that they may not stand there; nil: of none
	// but those that never may (RFC 9110 section 6.5.1).
	Refuses func(name []byte) bool
	Lenient bool // for answers: passes over white space behind a chunk size, and before a colon

	state  chunkState
	padded bool  // what Next took last holds such white space
	left   int64 // of the chunk's data
}

type chunkState uint8

const (
	atSize chunkState = iota
	inData
	atDataEnd
	atTrailers
	atEnd
)

// Done reports whether the body is complete.
func (c *Chunked) Done() bool { return c.state == atEnd }

// Left returns how many bytes of the present chunk's data are still to come.
func (c *Chunked) Left() int64 { return c.left }

// Neat reports whether what Next took last may go on as it is; otherwise AppendNeat is to
// write it.
func (c *Chunked) Neat() bool { return !c.padded }

// AppendNeat appends wire, which is what Next took last, without the white space that it
// passed over.
func (c *Chunked) AppendNeat(dst, wire []byte) []byte { return appendNeat(dst, wire) }

// Skip says that n bytes of chunk data, at most Left, went by outside of b.
func (c *Chunked) Skip(n int64) {
	if c.left -= n; c.left == 0 {
		c.state = atDataEnd
	}
}

// Next takes one element from the start of b: n is its length on the wire, data
// the payload in it, if any. ErrIncomplete asks for more bytes in front of the
// ones given, which were not consumed.
func (c *Chunked) Next(b []byte) (n int, data []byte, err error) {
	c.padded = false
	switch c.state {
	case atSize:
		return c.size(b)
	case inData:
		if len(b) == 0 {
			return 0, nil, ErrIncomplete
		}
		data = b[:min(int64(len(b)), c.left)]
		c.Skip(int64(len(data)))
		return len(data), data, nil
	case atDataEnd:
		if len(b) > 0 && b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
			return 0, nil, errChunkEnd
		}
		if len(b) < 2 {
			return 0, nil, ErrIncomplete
		}
		c.state = atSize
		return 2, nil, nil
	case atTrailers:
		return c.trailers(b)
	}
	return 0, nil, nil
}

func (c *Chunked) size(b []byte) (int, []byte, error) {
	line, n, err := chunkLine(b)
	if err != nil {
		return 0, nil, err
	}
	digits, ext, _ := bytes.Cut(line, []byte{';'})
	if c.Lenient {
		n := len(digits)
		digits = trimEnd(digits)
		c.padded = len(digits) != n
	}
	if len(digits) == 0 || len(digits) > 15 || !all(digits, isHex) || !all(ext, isValue) || !endsQuoted(ext) {
		return 0, nil, errChunkSize
	}
	c.left = 0
	for _, d := range digits {
		switch {
		case d <= '9':
			d -= '0'
		default:
			d = d&0x0f + 9
		}
		c.left = c.left<<4 | int64(d)
	}
	c.state = inData
	if c.left == 0 {
		c.state = atTrailers
	}
	return n, nil, nil
}

// endsQuoted reports whether each quoted string in the extensions of a chunk ends in them, whoever reads
// them: there are servers for whom one goes on behind the line, and takes the next ones along, and others that
// know of no escapes in it.
func endsQuoted(ext []byte) bool {
	n := bytes.Count(ext, []byte{'"'})
	return n == 0 || n%2 == 0 && bytes.IndexByte(ext, '\\') < 0
}

// chunkLine cuts a line that ends in CRLF off b.
func chunkLine(b []byte) (line []byte, n int, err error) {
	i := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
	switch {
	case i < 0 && len(b) >= maxChunkLine:
		return nil, 0, errChunkLine
	case i < 0:
		return nil, 0, ErrIncomplete
	case i == 0 || b[i-1] != '\r':
		return nil, 0, errBareLF
	}
	return b[:i-1], i + 1, nil
}

// trailers takes the trailer section when b holds the whole of it.
func (c *Chunked) trailers(b []byte) (int, []byte, error) {
	for n := 0; ; {
		rest := b[n:]
		i := bytes.IndexByte(rest, '\n')
		if i < 0 || n+i >= maxTrailers {
			if len(b) >= maxTrailers {
				return 0, nil, errChunkLine
			}
			return 0, nil, ErrIncomplete
		}
		if i == 0 || rest[i-1] != '\r' {
			return 0, nil, errBareLF
		}
		line := rest[:i-1]
		n += i + 1
		if len(line) == 0 {
			c.state = atEnd
			return n, nil, nil
		}
		name, _, err := splitField(line, c.Lenient)
		if err != nil {
			return 0, nil, err
		}
		c.padded = c.padded || line[len(name)] != ':'
		if !identify(name).mayTrail() || c.Refuses != nil && c.Refuses(name) {
			return 0, nil, errTrailer
		}
	}
}

// TrailerFields calls f with each field of a trailer section, which Next has taken as a whole.
// The slices point into the section.
func TrailerFields(section []byte, f func(name, value []byte)) {
	for len(section) > 0 {
		i := bytes.IndexByte(section, '\n')
		if i < 2 {
			return
		}
		if name, value, err := splitField(section[:i-1], true); err == nil {
			f(name, value)
		}
		section = section[i+1:]
	}
}
