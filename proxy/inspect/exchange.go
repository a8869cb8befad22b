package inspect

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/wire"
)

// exchange is one request and its answer.
type exchange struct {
	t *tunnel
	w http.ResponseWriter
	r *http.Request

	pipe *pipe
	stop func() bool // of what resets the pipe when the client resets the stream
	resp *http.Response
	body wire.Body
	keep bool // the pipe may carry another request
	lost bool // the client has taken less than all

	uploaded chan struct{} // closed when the body is sent, or will not be; nil: there is none
	sent     bool          // whole; for whoever has seen uploaded closed
	wanted   chan struct{} // closed when the server wants the body; nil: the client does not ask
	told     bool          // it is closed
	unwanted chan struct{} // closed when the body is wanted no more

	stalled *time.Timer // resets the stream while the client takes nothing; nil: never
	mu      sync.Mutex  // guards done
	done    bool        // the handler has returned, or is about to
}

var errMalformed = errors.New("a request that HTTP/1.1 has no words for")

var copies = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// roundTrip has the front door serve the request, and returns its final answer when that has
// begun. The interim ones go to the client at once.
func (x *exchange) roundTrip() (*http.Response, error) {
	head, framing, err := x.head()
	if err != nil {
		return nil, err
	}
	clear(x.r.Header) // which head has, and a body may take long
	for fresh := false; ; fresh = true {
		if x.pipe, err = x.t.take(fresh); err != nil {
			return nil, err
		}
		x.stop = context.AfterFunc(x.r.Context(), x.pipe.abort)
		send := head
		if framing != http1.NoBody { // it is sent but once
			head = nil
		}
		resp, err := x.over(send, framing)
		if err == nil {
			x.resp = resp
			return resp, nil
		}
		stale := x.pipe.used && framing == http1.NoBody && err == io.EOF && x.stop()
		x.pipe.close()
		if !stale { // else the front door has closed it before it saw the request
			return nil, err
		}
	}
}

// over sends the request over the pipe.
func (x *exchange) over(head []byte, framing http1.Framing) (*http.Response, error) {
	if _, err := x.pipe.conn.Blocking().Write(head); err != nil && !x.pipe.used {
		return nil, err
	}
	if framing != http1.NoBody {
		x.uploaded, x.unwanted = make(chan struct{}), make(chan struct{})
		go x.upload(framing == http1.ChunkedEnc)
	}
	var resp http1.Response
	for {
		if err := x.pipe.in.Response(&resp, x.r.Method == http.MethodHead, x.t.s.Answer); err != nil {
			return nil, err
		}
		if resp.Status >= 200 {
			break
		}
		if resp.Status == http.StatusSwitchingProtocols {
			return nil, errMalformed
		}
		if resp.Status == http.StatusContinue && x.wanted != nil {
			if !x.told {
				x.told = true
				close(x.wanted)
			}
			continue // x/net/http2 tells the client, when the body is read
		}
		x.interim(&resp)
	}
	x.keep = resp.KeepAlive
	x.body.From = &x.pipe.in
	x.body.Begin(&resp.Head, true)
	out := &http.Response{Status: strconv.Itoa(resp.Status), StatusCode: resp.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: fields(&resp.Head), Body: io.NopCloser(&x.body), ContentLength: -1, Request: x.r}
	x.body.Trailer = func(name, value []byte) {
		if out.Trailer == nil {
			out.Trailer = http.Header{}
		}
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		out.Trailer[key] = append(out.Trailer[key], string(value))
	}
	return out, nil
}

// fields are those that travel.
func fields(h *http1.Head) http.Header {
	out := make(http.Header, len(h.Fields)+3)
	for i := range h.Fields {
		if f := &h.Fields[i]; f.Travels() {
			name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
			out[name] = append(out[name], string(f.Value))
		}
	}
	return out
}

// head is the request's head as HTTP/1.1 has it, for the front door to judge. It has no words for
// what would be two requests, or another.
func (x *exchange) head() ([]byte, http1.Framing, error) {
	r := x.r
	target := r.RequestURI
	switch {
	case r.Method == http.MethodConnect:
		target = r.Host
	case r.TLS == nil: // :scheme is not https: so that the front door sees what was asked for
		target = "http://" + r.Host + target
	}
	if strings.ContainsAny(r.Method, " \r\n\x00") || strings.ContainsAny(target, "\r\n\x00") || !httpguts.ValidHeaderFieldValue(r.Host) || r.Header["Host"] != nil {
		return nil, 0, errMalformed
	}
	if err := wire.CheckFields(r.Header); err != nil {
		return nil, 0, err
	}
	framing, err := x.framing()
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, 0, 1<<10)
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Host...), "\r\n"...)
	b = wire.AppendFields(b, r.Header)
	for name := range r.Trailer {
		if wire.CheckField(name) != nil {
			return nil, 0, errMalformed
		}
		if framing != http1.ChunkedEnc { // there is nothing for them to stand behind
			continue
		}
		b = append(append(append(b, "Trailer: "...), name...), "\r\n"...)
	}
	if framing == http1.ChunkedEnc {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if framing != http1.NoBody && expects(r.Body) {
		x.wanted = make(chan struct{})
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	return append(b, "\r\n"...), framing, nil
}

// framing is how the body is to go. A length that is not that of the body is an error, but for
// what http1 refuses by itself.
func (x *exchange) framing() (http1.Framing, error) {
	switch n := x.r.ContentLength; {
	case x.r.Method == http.MethodConnect:
		return http1.NoBody, nil
	case n < 0:
		return http1.ChunkedEnc, nil
	case n > 0 && len(x.r.Trailer) > 0: // which only chunks have
		x.r.Header.Del("Content-Length")
		return http1.ChunkedEnc, nil
	case n > 0:
		return http1.Length, nil
	}
	if v := x.r.Header.Get("Content-Length"); v != "" && strings.Trim(v, "0") != "" { // and nothing comes
		if _, err := strconv.ParseUint(v, 10, 63); err == nil {
			return 0, errMalformed
		}
	}
	return http1.NoBody, nil
}

// upload sends the body. It runs beside the reading of the answer.
func (x *exchange) upload(chunked bool) {
	defer close(x.uploaded)
	p := x.pipe
	defer x.t.s.Report.Recover(p.abort)
	if !x.mayRead() {
		return
	}
	buf := copies.Get().(*[32 << 10]byte)
	defer copies.Put(buf)
	body := io.Reader(x.r.Body)
	if !chunked { // the end of the stream may come later than that of the body
		body = io.LimitReader(body, x.r.ContentLength)
	}
	readErr, writeErr := wire.CopyBody(p.conn.Blocking(), body, chunked, func() http.Header {
		for name, values := range x.r.Trailer {
			if values == nil {
				delete(x.r.Trailer, name)
			}
		}
		return x.r.Trailer
	}, buf[:])
	if readErr != nil && !errors.Is(readErr, errDone) {
		p.abort()
	}
	x.sent = readErr == nil && writeErr == nil
}

// errDone is for reads behind the end of the exchange.
var errDone = http.ErrBodyReadAfterClose

// whole reports whether the client has all of the answer.
func (x *exchange) whole() bool { return x.resp != nil && x.body.Whole() && !x.lost }

// endUpload returns when nobody reads the body any more, and reports whether it was sent whole.
func (x *exchange) endUpload() bool {
	if x.keep { // the front door has taken it all, and the goroutine is about to see that
		<-x.uploaded
		return x.sent
	}
	close(x.unwanted)
	x.pipe.close() // the answer is there, so that nobody takes more
	x.r.Body.Close()
	<-x.uploaded
	return false
}

// end leaves nothing of the exchange, and keeps the pipe if it may be.
func (x *exchange) end() {
	x.mu.Lock()
	x.done = true
	x.mu.Unlock()
	p := x.pipe
	if p == nil {
		return
	}
	whole := x.whole()
	unused := x.stop()
	if !whole {
		p.abort()
		x.keep = false
	}
	if x.uploaded != nil {
		whole = x.endUpload() && whole
	}
	if whole && unused && x.keep && !p.in.Buffered() {
		x.t.put(p)
		return
	}
	p.close()
	p.in.Release()
}
