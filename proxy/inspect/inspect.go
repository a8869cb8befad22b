// Package inspect speaks HTTP/2 (RFC 9113) with the clients of opened tunnels. x/net/http2 reads
// the streams, goproxy handles their requests, and the front door serves each, as one of HTTP/1.1,
// over a pair: admission, request rules, credentials, limits and records are the front door's
// alone, and so is the way out.
//
// goproxy is held by both ends. What it is given has passed the adaptor here: no CONNECT, which it
// would serve past its hooks. Its hook hands each request to the front door, and its own transport
// and diallers fail. What it writes goes through the adaptor too: each piece at once, and a stream
// whose answer is not whole is reset, since goproxy would end it as if it were.
package inspect

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

const (
	// mostStreams is how many requests a client may have under way in a tunnel.
	mostStreams = 100
	// frameMost is the payload of a frame that clients may send: x/net keeps a buffer as large as the
	// largest that has come.
	frameMost = 16 << 10
	// lookEvery is how often a client is asked whether it is there, that sends nothing.
	lookEvery = 30 * time.Second
)

// Options is what a Server uses. Head and Answer are required.
type Options struct {
	Head    http1.Limits     // of a request, as the front door has it
	Answer  http1.Limits     // of what the front door answers
	Idle    time.Duration    // of a tunnel without a request; 0: any
	Stalled time.Duration    // for which a client may take nothing of an answer; 0: any
	Log     *slog.Logger     // of what x/net/http2 says; nil: nowhere
	Report  contain.Reporter // is told of panics; nil: nobody is
}

// Server serves the clients of opened tunnels. Make it with New. Its methods may be called
// concurrently.
type Server struct {
	Options
	base    *http.Server
	h2      *http2.Server
	goproxy http.Handler
}

// errNoDial says that goproxy has tried to connect by itself.
var errNoDial = errors.New("connections are made by the gate alone")

// New returns a Server.
func New(o Options) *Server {
	s := &Server{Options: o, goproxy: handler()}
	std := log.New(io.Discard, "", 0)
	if o.Log != nil {
		std = slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)
	}
	s.base = &http.Server{MaxHeaderBytes: o.Head.MaxHead, ErrorLog: std}
	s.h2 = &http2.Server{
		MaxConcurrentStreams: mostStreams, MaxReadFrameSize: frameMost, IdleTimeout: o.Idle,
		ReadIdleTimeout: lookEvery, PingTimeout: lookEvery / 2, WriteByteTimeout: o.Stalled,
	}
	if err := http2.ConfigureServer(s.base, s.h2); err != nil {
		panic(err) // of what stands here
	}
	return s
}

// handler is goproxy with nothing of its own.
func handler() http.Handler {
	p := goproxy.NewProxyHttpServer()
	p.Logger, p.Verbose = log.New(io.Discard, "", 0), false
	never := func(context.Context, string, string) (net.Conn, error) { return nil, errNoDial }
	p.Tr = &http.Transport{DialContext: never, DialTLSContext: never}
	p.ConnectDial = func(string, string) (net.Conn, error) { return nil, errNoDial }
	p.ConnectDialWithReq = func(*http.Request, string, string) (net.Conn, error) { return nil, errNoDial }
	p.NonproxyHandler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	p.KeepHeader, p.KeepAcceptEncoding, p.KeepDestinationHeaders = true, true, false
	p.OnRequest().DoFunc(func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		x, _ := r.Context().Value(theExchange{}).(*exchange)
		ctx.RoundTripper = goproxy.RoundTripperFunc(func(*http.Request, *goproxy.ProxyCtx) (*http.Response, error) {
			if x == nil {
				return nil, errNoDial
			}
			return x.roundTrip()
		})
		return r, nil
	})
	return p
}

// theExchange is the key of a request's context for what serves it.
type theExchange struct{}

// Pipe makes a connection whose other end the front door serves, as one of the tunnel. done is
// called when it is closed.
type Pipe func() (near *sock.Conn, done func(), err error)

// Serve serves a client that has agreed on HTTP/2, until it or Drain ends that, or ctx does. conn
// is a *tls.Conn, or has its ConnectionState; it is closed.
func (s *Server) Serve(ctx context.Context, conn net.Conn, pipe Pipe) {
	t := &tunnel{s: s, pipe: pipe}
	defer t.end()
	s.h2.ServeConn(conn, &http2.ServeConnOpts{Context: ctx, BaseConfig: s.base, Handler: t})
}

// Drain tells all clients to send no more requests (GOAWAY). Those under way go on, and the
// connections close behind the last. Who comes later is told by another Drain.
func (s *Server) Drain() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.base.Shutdown(ctx) // which has no listener: it tells whom ServeConn serves
}

// tunnel is one client's.
type tunnel struct {
	s    *Server
	pipe Pipe

	mu    sync.Mutex
	free  []*pipe // between two requests, the last used at the end
	ended bool
}

// ServeHTTP serves a request.
func (t *tunnel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{t: t, w: w, r: r}
	defer x.end()
	if r.Method == http.MethodConnect || r.Header[":protocol"] != nil {
		x.refused()
		return
	}
	own := r.WithContext(context.WithValue(r.Context(), theExchange{}, x))
	url := *r.URL
	url.Scheme, url.Host = "https", r.Host
	if url.Host == "" {
		url.Host = "none"
	}
	own.URL, own.Body = &url, http.NoBody // the adaptor sends what there is
	t.s.goproxy.ServeHTTP(writer{x}, own)
	if !x.whole() {
		panic(http.ErrAbortHandler)
	}
}

// end closes what is left.
func (t *tunnel) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, p := range t.free {
		p.close()
	}
	t.free = nil
}
