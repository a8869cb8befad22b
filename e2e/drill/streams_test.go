package drill

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// asStream leaves of a plan what HTTP/2 has words for: with the client, and with the server too
// unless the class says else.
func (p *plan) asStream() {
	p.minor, p.halfClose = 1, false
	if p.upEnd == finish {
		p.upEnd = reset
	}
	if p.status == 304 || p.status == 204 {
		p.down = noBody
	}
	if p.early != 0 && p.trailer() && p.up == chunked {
		p.up = length // x/net/http2 ends the connection where trailers come to a stream that it has answered
	}
	if p.class == classDown {
		return
	}
	p.unasked, p.closes, p.hangsUp = false, false, false
	switch p.early { // the stream of an answer ends with its handler
	case earlyReads:
		p.status, p.expect = 200, false // or the client would send no more
	case earlyStops:
		p.early = earlyGoes
	}
	if p.down == untilClose {
		p.down = chunked
	}
	if p.downEnd == finish {
		p.downEnd = reset
	}
}

// inside reports whether the exchange is inside a tunnel that the gateway opens.
func (k key) inside() bool { return k.class == classInside || k.streams() }

// streams reports whether its client speaks HTTP/2.
func (k key) streams() bool {
	return k.class == classStreams || k.class == classDown || k.class == classRough
}

// sure reports whether nothing but its plan cuts the exchange short.
func (d *drill) sure(p *plan) bool { return d.gate(p).patient && p.class != classRough }

// newTransport makes clients of HTTP/2 that send no body which they were not told to send.
func newTransport() (*http2.Transport, error) {
	return http2.ConfigureTransports(&http.Transport{ExpectContinueTimeout: 2 * patience, DisableCompression: true})
}

// goStreams is a connection whose exchanges are streams inside a tunnel that the gateway opens: one
// after the other, or many at once.
func (w *worker) goStreams(g *gate, gateway int) {
	class, o := byte(classStreams), w.d.streams
	switch w.r.IntN(5) {
	case 0:
		class, o = classRough, w.d.rough
	case 1, 2:
		class, o = classDown, w.d.inside
	}
	c := w.connect(g, g.addr)
	if c == nil {
		return
	}
	defer c.Close()
	if !c.goInside(class, o.port(), "h2") {
		return
	}
	c.SetDeadline(time.Time{}) // that of each exchange ends it
	cc, err := w.d.transport.NewClientConn(c.wire)
	if err != nil {
		if g.patient {
			w.d.fault(nil, "HTTP/2 inside, with %s: %v", g.name, err)
		}
		return
	}
	defer cc.Close()
	for range 1 + w.r.IntN(4) {
		var wg sync.WaitGroup
		for range pick(w.r, 1, 1, 2, 4, 8, 16) {
			p := w.draw(class, gateway)
			w.d.clients.Store(p.key, cc)
			wg.Go(func() { w.stream(g, cc, p, o.port()) })
		}
		wg.Wait()
		if w.d.ctx.Err() != nil || !cc.CanTakeNewRequest() {
			return
		}
	}
}

// stream makes an exchange over cc.
func (w *worker) stream(g *gate, cc *http2.ClientConn, p *plan, port int) {
	defer w.d.over(p.key).done()
	limit := patience
	if p.class == classRough {
		limit *= 2 // it may be left to wait: then the gateway's own limit ends it
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s := &asker{client: &client{w: w, g: g}, p: p, leave: cancel}
	r, err := s.ask(ctx, fmt.Sprintf("https://%s:%d/%s", insideHost, port, p.key))
	if err != nil {
		w.d.fault(p, "a request of the drill: %v", err)
		return
	}
	resp, err := cc.RoundTrip(r)
	var a received
	switch {
	case err == nil:
		defer resp.Body.Close()
		s.receive(resp, &a)
	default:
		a.err = err
	}
	if errors.Is(a.err, context.DeadlineExceeded) {
		w.d.fault(p, "after %s there is no end, behind %d bytes", limit, a.got)
		return
	}
	a.left = a.left || s.left.Load()
	s.judge(p, &a, nil)
}

// asker is the client's side of a stream.
type asker struct {
	*client
	p     *plan
	leave func()
	left  atomic.Bool
	early atomic.Int64 // how many 103 have come
	bad   atomic.Pointer[error]
}

// ask is the request.
func (s *asker) ask(ctx context.Context, url string) (*http.Request, error) {
	p := s.p
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: s.interim})
	var body io.Reader
	if p.up != noBody {
		body = &uploading{s: s, rand: p.rand(up), end: p.upSize}
		if p.upEnd != whole {
			body.(*uploading).end = p.upCut
		}
	}
	r, err := http.NewRequestWithContext(ctx, p.method, url, body)
	if err != nil {
		return nil, err
	}
	switch {
	case p.up == length && p.upSize == 0:
		r.Body = http.NoBody
	case p.up == length:
		r.ContentLength = p.upSize
	case p.up == chunked:
		r.ContentLength = -1
		if p.trailer() {
			r.Trailer = http.Header{"X-Trailer": {p.key.String()}}
		}
	}
	r.Header = http.Header{"X-Drill": {p.key.String()}, "User-Agent": {"drill " + p.key.String()}, "Referer": {"http://r/" + p.key.String()},
		"Accept": {"text/plain"}, "X-Pad": {stream{p.key, up}.letters(p.padding)}, "X-Credential": {"stolen"}, "X_credential": {"stolen"}}
	if p.expect {
		r.Header.Set("Expect", "100-continue")
	}
	return r, nil
}

// interim is told of each interim answer.
func (s *asker) interim(code int, h textproto.MIMEHeader) error {
	switch {
	case code == 100 && s.p.expect:
	case code == 103 && h.Get("X-Drill") == s.p.key.String() && s.early.Add(1) <= int64(s.p.interims):
	default:
		err := wrongf("an interim answer %d: %v", code, h)
		s.bad.Store(&err)
	}
	return nil
}

// uploading is the body of a request.
type uploading struct {
	s        *asker
	rand     *rand.Rand
	off, end int64
}

func (u *uploading) Read(b []byte) (int, error) {
	p := u.s.p
	if u.off == u.end {
		if p.upEnd == whole {
			return 0, io.EOF
		}
		u.s.left.Store(true)
		u.s.leave()
		return 0, errLeft
	}
	n := min(u.end-u.off, int64(len(b)))
	if p.pieces > 0 {
		n = min(n, 1+u.rand.Int64N(20<<10))
	}
	stream{p.key, up}.fill(b[:n], u.off)
	u.off += n
	return int(n), nil
}

// receive reads the answer.
func (s *asker) receive(resp *http.Response, a *received) {
	p := s.p
	a.any, a.status = true, resp.StatusCode
	h := head{start: p.key.String(), fields: make(map[string]string)}
	for name, values := range resp.Header {
		h.fields[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if a.own = strings.HasPrefix(h.fields["proxy-status"], "sluice; "); a.own {
		s.r = bufio.NewReader(resp.Body)
		a.err = s.receiveOwn(p, h, a)
	} else if a.err = s.checkHead(p, h, a.status, h.start); a.err == nil {
		a.got, a.err = s.receiveBody(p, h, resp, a)
	}
	if bad := s.bad.Load(); bad != nil {
		a.err = *bad
	}
	a.whole = a.err == nil && !a.left
	if a.whole && !a.own && s.early.Load() != int64(p.interims) {
		a.err = wrongf("%d interim answers", s.early.Load())
	}
}

func (s *asker) receiveBody(p *plan, h head, resp *http.Response, a *received) (int64, error) {
	v, ok := h.fields["content-length"]
	said := ok == (p.down == length) || ok && p.downSize == 0 || p.bodyless() // net/http says of what is empty that it is
	if !said || ok && v != fmt.Sprint(p.downSize) {
		return 0, wrongf("Content-Length %q of an answer of %d bytes, framing %d", v, p.downSize, p.down)
	}
	body := stream{p.key, down}
	if p.leaveAt >= 0 && !p.bodyless() {
		got, err := body.receive(resp.Body, 0, p.leaveAt)
		a.left = err == nil
		return got, err
	}
	want := p.downSize
	if p.bodyless() {
		want = 0
	}
	got, err := body.receive(resp.Body, 0, -1)
	trailer := p.down == chunked && p.trailer() && !p.bodyless()
	switch {
	case err != nil:
		return got, err
	case got != want:
		return got, wrongf("a clean end behind %d of %d bytes", got, want)
	case trailer && resp.Trailer.Get("X-Trailer") != p.key.String(), !trailer && len(resp.Trailer) > 0:
		return got, wrongf("the trailers of the answer are %v", resp.Trailer)
	}
	return got, nil
}
