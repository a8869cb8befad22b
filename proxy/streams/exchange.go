package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/wire"
)

// requests are the limits of a head that the front door writes: it has held its client to others.
var requests = http1.Limits{MaxHead: 4 << 20, MaxFields: 10000}

const (
	// stalledLook is how often the front door is looked at while the server takes nothing.
	stalledLook = time.Second
	// lastWait is for how long the front door may take to close what is answered.
	lastWait = 10 * time.Second
)

var copies = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// exchange is one request and its answer.
type exchange struct {
	far  *sock.Conn
	from sock.Blocking
	in   wire.Reader
	body upload
	head bool // the request is a HEAD

	untouched bool // the server has not begun with the request
}

// carry carries one exchange between far, at whose other end the front door is, and a stream.
func (s *Session) carry(far *sock.Conn) {
	far.Share()
	x := &exchange{far: far, from: far.Blocking()}
	x.in.Src = x.from
	defer x.in.Release()
	ctx, cancel := context.WithCancel(s.t.ctx)
	gone := make(chan struct{})
	defer func() { <-gone }()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { // or its wait for the end would last
		if s.t.ctx.Err() != nil {
			far.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	req, err := x.request()
	if err != nil {
		close(gone)
		far.ResetOnClose()
		return
	}
	go func() {
		defer close(gone)
		x.watch(ctx)
		cancel()
	}()
	if err := x.serve(ctx, s, req); err != nil && !x.untouched {
		far.ResetOnClose()
		cancel()
		far.SetReadDeadline(time.Unix(1, 0)) // for watch
		return
	}
	far.CloseWrite()
	x.body.Close()
	far.SetReadDeadline(time.Now().Add(lastWait))
	<-gone // the front door has taken it all
}

// serve sends the request and writes the answer. The error is of an answer that is not whole.
func (x *exchange) serve(ctx context.Context, s *Session, req *http.Request) error {
	defer x.body.Close()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: x.interim,
		WroteHeaders:   func() { clear(req.Header) }, // of whatever size, for as long as a body may take
	})
	resp, err := s.cc.RoundTrip(req.WithContext(ctx))
	if err != nil {
		x.untouched = untouched(err)
		return err
	}
	defer resp.Body.Close()
	return x.answer(resp)
}

// untouched reports whether err says that the server has not begun with the request, and never
// will (RFC 9113 section 8.7), so that it may be sent again.
func untouched(err error) bool {
	reset, ok := errors.AsType[http2.StreamError](err)
	return ok && reset.Code == http2.ErrCodeRefusedStream || slices.Contains(unsent, err.Error())
}

// unsent are the texts of errors of x/net/http2, which have no names there: of a stream beyond those
// that a GOAWAY leaves to the server, and of one that was not begun, since there was a GOAWAY before.
var unsent = []string{"http2: Transport received Server's graceful shutdown GOAWAY", "http2: client conn not usable"}

// watch returns when the front door has given up the exchange, or has closed what is answered.
// While the body is read that finds it; later nobody reads.
func (x *exchange) watch(ctx context.Context) {
	tick := time.NewTicker(stalledLook)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-x.body.over:
			waiting = false
		case <-ctx.Done():
			return
		case <-tick.C:
			if half, all := x.far.PeerEnd(); all || half && !x.body.reading.Load() {
				return
			}
		}
	}
	x.from.ReadWhenReady(func(uintptr) bool {
		half, all := x.far.PeerEnd()
		return half || all
	})
}

// request reads the request, but for its body.
func (x *exchange) request() (*http.Request, error) {
	var head http1.Request
	if err := x.in.Request(&head, requests); err != nil {
		return nil, err
	}
	target, err := head.ParseTarget()
	if err != nil || target.Form != http1.OriginForm {
		return nil, errors.Join(err, errors.New("no request in origin form"))
	}
	x.head = string(head.Method) == "HEAD"
	host := string(head.Host)
	req := &http.Request{
		Method: string(head.Method), Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		// So that the path goes as the bytes that it is.
		URL:    &url.URL{Scheme: "https", Host: host, Opaque: "//" + host + string(target.Path)},
		Header: http.Header{"User-Agent": {""}}, // or one would be invented
	}
	for i := range head.Fields {
		f := &head.Fields[i]
		switch {
		case f.ID == http1.Trailer:
			for name := range strings.SplitSeq(string(f.Value), ",") {
				if req.Trailer == nil {
					req.Trailer = http.Header{}
				}
				req.Trailer[textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))] = nil
			}
		case f.ID == http1.UserAgent:
			req.Header["User-Agent"] = []string{string(f.Value)}
		case f.ID != http1.Host && f.ID != http1.ContentLength && f.Travels():
			name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
			req.Header[name] = append(req.Header[name], string(f.Value))
		}
	}
	if head.Trailers {
		req.Header["Te"] = []string{"trailers"}
	}
	x.begin(&head, req)
	return req, wire.CheckFields(req.Header)
}

// begin readies the body.
func (x *exchange) begin(head *http1.Request, req *http.Request) {
	x.body.over, x.body.far = make(chan struct{}), x.far
	x.body.from.From = &x.in
	x.body.from.Begin(&head.Head, false)
	x.body.from.Trailer = func(name, value []byte) {
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		if _, announced := req.Trailer[key]; announced {
			req.Trailer[key] = append(req.Trailer[key], string(value))
		}
	}
	switch head.Framing {
	case http1.NoBody:
		req.Body, req.Trailer = http.NoBody, nil // x/net would wait for a body to send them behind
		x.body.finish()
	case http1.Length:
		req.Body, req.ContentLength = &x.body, head.Length
	default:
		req.Body, req.ContentLength = &x.body, -1
	}
}

// interim writes an interim answer. It is called by whoever reads for all streams, and so waits
// for nobody: a front door that takes none has so many of them that it takes no more at all.
func (x *exchange) interim(status int, h textproto.MIMEHeader) error {
	if status == http.StatusSwitchingProtocols {
		return errors.New("a server of HTTP/2 switches protocols")
	}
	b, err := appendHead(nil, status, http.Header(h))
	if err != nil {
		return err
	}
	b = append(b, "\r\n"...)
	sent := 0
	if e := x.far.Control(func(fd uintptr) { sent, err = sock.TryWrite(int(fd), b) }); e != nil {
		return e
	}
	if sent != len(b) {
		return errors.Join(errors.New("more interim answers than are taken"), err)
	}
	return nil
}

func appendHead(b []byte, status int, h http.Header) ([]byte, error) {
	if err := wire.CheckFields(h); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10), ' ')
	b = append(append(b, http.StatusText(status)...), "\r\n"...)
	return wire.AppendFields(b, h), nil
}

// answer writes the final answer.
func (x *exchange) answer(resp *http.Response) error {
	h := resp.Header
	bare := x.head || resp.StatusCode == 204 || resp.StatusCode == 304
	lengths := h["Content-Length"]
	if len(lengths) > 1 || len(lengths) == 1 && resp.ContentLength < 0 && !bare {
		return errors.New("the server's answer: no one Content-Length")
	}
	chunked := !bare && resp.ContentLength < 0
	if !bare && resp.ContentLength == 0 { // nothing comes but the end, and what stands behind it
		if _, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
			return errors.Join(err, errors.New("the server's answer: no end where it must be"))
		}
	}
	if len(resp.Trailer) > 0 && !bare { // which only chunks have
		delete(h, "Content-Length")
		chunked = true
	}
	for name := range resp.Trailer {
		h["Trailer"] = append(h["Trailer"], name)
	}
	out, err := appendHead(nil, resp.StatusCode, h)
	switch {
	case err != nil:
		return err
	case chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case !bare && len(lengths) == 0:
		out = append(out, "Content-Length: 0\r\n"...) // it has ended with its head
	}
	if _, err := x.from.Write(append(out, "Connection: close\r\n\r\n"...)); err != nil || bare {
		return err
	}
	buf := copies.Get().(*[32 << 10]byte)
	defer copies.Put(buf)
	readErr, writeErr := wire.CopyBody(x.from, resp.Body, chunked, func() http.Header { return resp.Trailer }, buf[:])
	return errors.Join(readErr, writeErr)
}
