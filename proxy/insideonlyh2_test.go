package proxy

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// secureServer serves connections by TLS as serve does, and counts them.
func secureServer(t testing.TB, config *tls.Config, serve func(*tls.Conn)) (addr string, conns *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conns = new(atomic.Int32)
	var mu sync.Mutex
	var open []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				if s := tls.Server(c, config); s.Handshake() == nil {
					serve(s)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String(), conns
}

// echoes answers with the request's protocol and body.
var echoes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, r.Proto, " ")
	io.Copy(w, r.Body)
})

// tellsOf has a server take who offers HTTP/2, and do as its refusal says with others.
func tellsOf(config *tls.Config, refuse func() (*tls.Config, error)) *tls.Config {
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, p := range h.SupportedProtos {
			if p == "h2" {
				return nil, nil
			}
		}
		return refuse()
	}
	return config
}

// A server that speaks HTTP/2 alone gets it from a client of HTTP/1.1 too, however it takes who offers
// nothing but that: by an alert or none, by choosing nothing, by ending.
func TestClientOfOneServerOfTwo(t *testing.T) {
	ofTwo := func(c *tls.Conn) { new(http2.Server).ServeConn(c, &http2.ServeConnOpts{Handler: echoes}) }
	only := func(c *tls.Conn) {
		if c.ConnectionState().NegotiatedProtocol == "h2" {
			ofTwo(c)
		}
	}
	for name, tt := range map[string]struct {
		change func(*tls.Config) *tls.Config
		serve  func(*tls.Conn)
		first  int32 // connections until it is known
	}{
		"chooses nothing":    {func(c *tls.Config) *tls.Config { return c }, ofTwo, 2},
		"closes behind that": {func(c *tls.Config) *tls.Config { return c }, only, 2},
		"TLS 1.2":            {func(c *tls.Config) *tls.Config { c.MaxVersion = tls.VersionTLS12; return c }, ofTwo, 2},
		"says so": {func(c *tls.Config) *tls.Config {
			return tellsOf(c, func() (*tls.Config, error) {
				return &tls.Config{NextProtos: []string{"x"}, Certificates: c.Certificates}, nil
			})
		}, ofTwo, 2},
		"says something else":   {func(c *tls.Config) *tls.Config { return tellsOf(c, func() (*tls.Config, error) { return nil, io.EOF }) }, ofTwo, 2},
		"takes nothing offered": {func(c *tls.Config) *tls.Config { c.NextProtos = nil; return c }, ofTwo, 0},
	} {
		t.Run(name, func(t *testing.T) {
			of := nettest.NewCA(t)
			config := tt.change(&tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{of.Issue("api.test")}})
			addr, conns := secureServer(t, config, tt.serve)
			g := &insideGate{}
			g.use(t, of.Pool, addr, nil)
			c := g.tunnel(t, "http/1.1")
			r := bufio.NewReader(c)
			if tt.first == 0 { // nobody can tell that it is HTTP/2
				io.WriteString(c, "GET /a HTTP/1.1\r\nHost: "+g.target+"\r\n\r\n")
				resp, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				assert.Equal(t, 502, resp.StatusCode)
				return
			}
			for i := range 3 {
				body := strings.Repeat("x", i*100_000)
				fmt.Fprintf(c, "POST /a HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", g.target, len(body), body)
				resp, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				assert.Equal(t, 200, resp.StatusCode)
				assert.True(t, all(t, resp) == "HTTP/2.0 "+body, "request %d", i)
			}
			assert.Equal(t, tt.first, conns.Load(), "and its connection is used again")
		})
	}
}

// net/http with HTTP/2 alone closes behind a handshake that has chosen nothing.
func TestClientOfOneServerOfTwoByNetHTTP(t *testing.T) {
	for _, protos := range [][]string{nil, {"h2"}} {
		of := nettest.NewCA(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		server := &http.Server{Handler: echoes, Protocols: new(http.Protocols), TLSConfig: &tls.Config{NextProtos: protos, Certificates: []tls.Certificate{of.Issue("api.test")}}}
		server.Protocols.SetHTTP2(true)
		done := make(chan struct{})
		go func() { defer close(done); server.ServeTLS(l, "", "") }()
		t.Cleanup(func() { server.Close(); <-done })
		g := &insideGate{}
		g.use(t, of.Pool, l.Addr().String(), nil)
		c := g.tunnel(t, "http/1.1")
		io.WriteString(c, "GET /a HTTP/1.1\r\nHost: "+g.target+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		assert.Equal(t, "HTTP/2.0 ", all(t, resp))
	}
}

// A server of HTTP/1.1 that chooses nothing stays one: it is offered both once more, and from then on at
// once. One that chooses costs nothing, and one that fails is told by its first failure.
func TestClientOfOneServerOfOne(t *testing.T) {
	serve := func(c *tls.Conn) {
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/bye" {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbye")
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
	for name, tt := range map[string]struct {
		protos []string
		conns  []int32 // after each request
	}{
		"chooses":         {[]string{"h2", "http/1.1"}, []int32{1, 1, 2, 2}},
		"chooses one":     {[]string{"http/1.1"}, []int32{1, 1, 2, 2}},
		"chooses nothing": {nil, []int32{2, 2, 3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			of := nettest.NewCA(t)
			addr, conns := secureServer(t, &tls.Config{NextProtos: tt.protos, Certificates: []tls.Certificate{of.Issue("api.test")}}, serve)
			g := &insideGate{}
			g.use(t, of.Pool, addr, nil)
			c := g.tunnel(t, "http/1.1")
			r := bufio.NewReader(c)
			for i, path := range []string{"/", "/bye", "/", "/"} {
				io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+g.target+"\r\n\r\n")
				resp, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				assert.Equal(t, 200, resp.StatusCode)
				all(t, resp)
				assert.Equal(t, tt.conns[i], conns.Load(), "request %d", i)
			}
		})
	}
	of := nettest.NewCA(t)
	addr, conns := secureServer(t, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, io.EOF }}, serve)
	g := &insideGate{}
	g.use(t, of.Pool, addr, nil)
	c := g.tunnel(t, "http/1.1")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+g.target+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	assert.Equal(t, "502 Bad Gateway: TLS with api.test: remote error: tls: internal error", resp.Status)
	assert.EqualValues(t, 2, conns.Load())
}

// What a server says that may be for want of a protocol, and what is not.
func TestSpeaksOther(t *testing.T) {
	t.Parallel()
	remote := func(a tls.AlertError) error {
		return fmt.Errorf("TLS with a: %w", &net.OpError{Op: "remote error", Err: a})
	}
	for want, errs := range map[bool][]error{
		true: {remote(120), remote(40), remote(80),
			&outbound.Error{Kind: outbound.TLSFailed, Err: io.EOF}},
		false: {fmt.Errorf("%w; %w", remote(116), outbound.ErrClientCertificate), &outbound.Error{Kind: outbound.ConnectionFailed, Err: io.EOF},
			&outbound.Error{Kind: outbound.TLSUntrusted, Err: io.ErrClosedPipe}, &outbound.Error{Kind: outbound.ConnectTimeout, Err: io.ErrNoProgress}},
	} {
		for _, err := range errs {
			assert.Equal(t, want, outbound.SpeaksOther(err), "%v", err)
		}
	}
}
