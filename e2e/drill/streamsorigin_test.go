package drill

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// newStreams is a server of HTTP/2. A rough one ends its connections under way: it says that it takes
// no more, or resets them.
func (d *drill) newStreams(secure *tls.Config, rough bool) *origin {
	secure = secure.Clone()
	secure.NextProtos = []string{"h2"}
	o := d.listen(secure)
	o.streams, o.rough = true, rough
	o.wg.Go(o.accept)
	return o
}

// streaming is a connection to a server of HTTP/2.
type streaming struct {
	*visit
	base *http.Server
	left atomic.Int64 // so many exchanges later a rough server ends it
	by   int
}

// serveStreams serves the streams of a connection.
func (v *visit) serveStreams() {
	v.SetDeadline(time.Time{}) // it lies idle for as long as the gateway lets it
	secure := v.Conn.(*tls.Conn)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if secure.HandshakeContext(ctx) != nil {
		return
	}
	s := &streaming{visit: v, base: &http.Server{ErrorLog: log.New(io.Discard, "", 0)}}
	h2 := &http2.Server{MaxConcurrentStreams: 100, CountError: func(what string) { v.d.count("server: h2 " + what) }}
	if v.rough {
		h2.MaxConcurrentStreams = uint32(1 + rand.IntN(20))
		s.left.Store(1 + rand.Int64N(25))
		s.by = rand.IntN(3)
	}
	if err := http2.ConfigureServer(s.base, h2); err != nil {
		v.d.fault(nil, "a server of HTTP/2: %v", err)
		return
	}
	h2.ServeConn(secure, &http2.ServeConnOpts{BaseConfig: s.base, Handler: s})
}

// ServeHTTP answers as the plan says.
func (s *streaming) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.wg.Add(1)
	defer s.wg.Done()
	h := head{start: r.Method + " " + r.RequestURI + " HTTP/1.1", fields: make(map[string]string)}
	for name, values := range r.Header {
		h.fields[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	p, err := s.planFor(h)
	if err != nil {
		s.d.fault(p, "a server of HTTP/2 got: %v; %+v", err, h)
		panic(http.ErrAbortHandler)
	}
	s.d.isShared(s.visit, p)
	if s.rough && s.left.Add(-1) == 0 {
		s.end()
	}
	if err := s.answer(p, w, r); isWrong(err) {
		s.d.fault(p, "the server of HTTP/2 got: %v", err)
	}
	if p.downEnd != whole {
		panic(http.ErrAbortHandler)
	}
}

// end ends the connection as a rough server does.
func (s *streaming) end() {
	if s.by == 0 {
		s.d.count("server: connection reset")
		abort(s.tcp)
		return
	}
	s.d.count("server: GOAWAY")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.base.Shutdown(ctx)
	// What comes to streams that it does not take uses up the window of the connection, and
	// x/net/http2 gives nothing of it back: the others would wait for ever.
	time.AfterFunc(time.Second, func() { abort(s.tcp) })
}

// isShared counts connections that carry the exchanges of more than one client's.
func (d *drill) isShared(v *visit, p *plan) {
	of, _ := d.clients.Load(p.key)
	if first := v.first.Load(); first == nil {
		v.first.CompareAndSwap(nil, &of)
	} else if *first != of && !v.shared.Swap(true) {
		d.count("server: a connection of several clients")
	}
}

// answer answers a request.
func (s *streaming) answer(p *plan, w http.ResponseWriter, r *http.Request) error {
	got := int64(0)
	if p.early == 0 {
		var err error
		if got, err = s.bodyOf(p, r); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("X-Drill", p.key.String())
	h["Content-Length"] = nil // so that x/net/http2 writes a copy: see proxy/inspect
	for range p.interims {
		w.WriteHeader(http.StatusEarlyHints)
	}
	delete(h, "Content-Length")
	s.fields(h, p, got)
	w.WriteHeader(p.status)
	control := http.NewResponseController(w)
	out := &piecewise{w: flushing{w, control}, pieces: p.answer, r: p.rand(down)}
	cut := p.downSize
	if p.cut() {
		cut = p.downCut
	}
	var err error
	if !p.bodyless() {
		err = stream{p.key, down}.send(out, 0, cut)
	}
	if e := out.flush(); err == nil {
		err = e
	}
	if p.down == chunked && p.trailer() && !p.bodyless() && !p.cut() {
		h.Set(http.TrailerPrefix+"X-Trailer", p.key.String())
	}
	switch {
	case p.cut():
		control.Flush()
		return nil
	case err != nil && s.d.sure(p) && p.leaveAt < 0 && p.early == 0 && p.upEnd == whole:
		return wrongf("%w, while it answered", err)
	case err != nil:
		return err
	case p.early == earlyReads:
		control.Flush()
		_, err = s.bodyOf(p, r)
	}
	return err
}

// flushing sends each piece at once.
type flushing struct {
	io.Writer
	control *http.ResponseController
}

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.Writer.Write(b)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// bodyOf reads the request's body.
func (s *streaming) bodyOf(p *plan, r *http.Request) (int64, error) {
	got, err := stream{p.key, up}.receive(r.Body, 0, -1)
	if got, err = s.judgeBody(p, got, err); err != nil {
		return got, err
	}
	trailer := p.up == chunked && p.trailer()
	if v := r.Trailer.Get("X-Trailer"); trailer && v != p.key.String() || !trailer && len(r.Trailer) > 0 {
		return got, wrongf("the trailers of the request are %v", r.Trailer)
	}
	return got, nil
}

func (s *streaming) fields(h http.Header, p *plan, got int64) {
	for name, value := range p.answerFields(got) {
		h.Set(name, value)
	}
}
