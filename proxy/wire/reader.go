// Package wire is HTTP/1.1 messages as they go over a pair between the front door, which speaks
// nothing else, and what speaks HTTP/2 for it: proxy/inspect with clients, proxy/streams with
// servers. What frames a message is read by [http1] alone, and what has no single reading in
// HTTP/1.1 is not written.
package wire

import (
	"errors"
	"io"
	"sync"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// room is the size of a buffer; a head that is larger gets one of its own, up to the limit.
const room = 16 << 10

var buffers = sync.Pool{New: func() any { return new([room]byte) }}

// Reader reads messages from one end of a pair. The zero Reader has no source: set Src. It is for
// one goroutine at a time, and holds a buffer until Release.
type Reader struct {
	Src io.Reader

	buf  []byte
	r, w int // what was read and not used is buf[r:w]
}

// Request reads the head of a request into req, whose slices stand until the next read.
func (r *Reader) Request(req *http1.Request, lim http1.Limits) error {
	req.Reset()
	return r.head(func(b []byte) (int, error) { return req.Parse(b, lim) })
}

// Response does so of an answer; toHead says that it answers a HEAD.
func (r *Reader) Response(resp *http1.Response, toHead bool, lim http1.Limits) error {
	resp.Reset()
	return r.head(func(b []byte) (int, error) { return resp.Parse(b, toHead, lim) })
}

// head reads until parse has a whole head. The error is io.EOF when nothing came.
func (r *Reader) head(parse func([]byte) (int, error)) error {
	for {
		if r.w > r.r {
			n, err := parse(r.buf[r.r:r.w])
			if err == nil {
				r.r += n
				return nil
			}
			if !errors.Is(err, http1.ErrIncomplete) {
				return err
			}
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.w > r.r {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// fill reads more behind what there is.
func (r *Reader) fill() error {
	switch {
	case r.buf == nil:
		r.buf = buffers.Get().(*[room]byte)[:]
	case r.r == r.w:
		r.r, r.w = 0, 0
	case r.w == len(r.buf) && r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	case r.w == len(r.buf): // the limit of heads and of trailers bounds it
		b := make([]byte, 2*len(r.buf))
		copy(b, r.buf)
		r.recycle()
		r.buf = b
	}
	n, err := r.Src.Read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return nil
	}
	return err
}

// Buffered reports whether something was read that nobody has used.
func (r *Reader) Buffered() bool { return r.w > r.r }

// Release gives the buffer back, with what is in it.
func (r *Reader) Release() {
	if r.buf != nil {
		r.recycle()
		r.buf, r.r, r.w = nil, 0, 0
	}
}

func (r *Reader) recycle() {
	if len(r.buf) == room {
		buffers.Put((*[room]byte)(r.buf))
	}
}
