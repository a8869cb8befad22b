package wire

import (
	"errors"
	"io"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// Body reads the body of the message whose head From has read. It ends with io.EOF when it is
// whole, and with io.ErrUnexpectedEOF when the connection ends before; what only an end would
// delimit is never whole. It is for one goroutine at a time.
type Body struct {
	From *Reader
	// Trailer is told of each field behind the body, before io.EOF; nil: nobody is.
	Trailer func(name, value []byte)

	framing http1.Framing
	left    int64
	chunks  http1.Chunked
	err     error
}

// Begin readies b for the body of a head.
func (b *Body) Begin(h *http1.Head, lenient bool) {
	b.framing, b.left, b.chunks, b.err = h.Framing, h.Length, http1.Chunked{Lenient: lenient}, nil
}

// Empty reports whether it is known that nothing will come.
func (b *Body) Empty() bool { return b.framing == http1.NoBody }

// Whole reports whether the body was read to its end.
func (b *Body) Whole() bool { return b.Empty() || b.err == io.EOF }

// Read reads what there is, or waits for it.
func (b *Body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	switch b.framing {
	case http1.NoBody:
		b.err = io.EOF
	case http1.Length:
		n, b.err = b.length(p)
	case http1.ChunkedEnc:
		n, b.err = b.chunked(p)
	default:
		b.err = io.ErrUnexpectedEOF
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

func (b *Body) length(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), b.left)]
	if r := b.From; r.Buffered() {
		n = copy(p, r.buf[r.r:r.w])
		r.r += n
	} else {
		n, err = r.Src.Read(p)
	}
	switch b.left -= int64(n); {
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *Body) chunked(p []byte) (int, error) {
	r := b.From
	for !b.chunks.Done() {
		there := r.buf[r.r:r.w]
		if b.chunks.Left() > 0 {
			there = there[:min(len(there), len(p))]
		}
		n, data, err := b.chunks.Next(there)
		switch {
		case errors.Is(err, http1.ErrIncomplete):
			if err := r.fill(); err == io.EOF {
				return 0, io.ErrUnexpectedEOF
			} else if err != nil {
				return 0, err
			}
			continue
		case err != nil:
			return 0, err
		}
		if b.chunks.Done() && b.Trailer != nil {
			http1.TrailerFields(there[:n], b.Trailer)
		}
		copied := copy(p, data)
		if r.r += n; copied > 0 {
			return copied, nil
		}
	}
	return 0, io.EOF
}
