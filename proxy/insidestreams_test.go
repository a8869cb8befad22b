package proxy

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

var bothUp = [][]string{{"h2", "http/1.1"}, {"http/1.1"}}

// What a front door says to a request by HTTP/1.1 it says to a stream, and logs each.
func TestStreamRefusals(t *testing.T) {
	g := startInside(t, []string{"h2"}, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }, func(in *policy.Inspected, _ *Options) {
		in.Requests = requestRules(t, "GET /v1/**\nPOST /v1/up\n!* /v1/keys**")
		in.MaxBody = 10
		in.Headers = []policy.Header{policy.NewHeader("Authorization", "Bearer ", []byte(insideSecret))}
	})
	unsized := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	tests := []struct {
		status       int
		says         string
		method, path string
		body         io.Reader
		fields       []string
	}{
		{200, "", "GET", "/v1/a", nil, nil},
		{403, "no request rule allows it", "DELETE", "/v1/a", nil, nil},
		{403, "no request rule allows it", "GET", "/", nil, nil},
		{400, "a dot segment", "GET", "/v1/%2e%2e/keys", nil, nil},
		{400, "overrides what the rules judge", "GET", "/v1/a", nil, []string{"X-HTTP-Method-Override: DELETE"}},
		{403, "a page of another origin asks", "GET", "/v1/a", nil, []string{"Origin: https://evil.test"}},
		{403, "TRACE is never sent on", "TRACE", "/v1/a", nil, nil},
		{200, "", "POST", "/v1/up", strings.NewReader("0123456789"), nil},
		{200, "", "POST", "/v1/up", unsized("0123456789"), nil},
		{413, "a body of more than 10 bytes", "POST", "/v1/up", strings.NewReader("01234567890"), nil},
		{413, "a body of more than 10 bytes", "POST", "/v1/up", unsized("01234567890"), nil},
		{417, "expectation other than 100-continue", "POST", "/v1/up", strings.NewReader("a"), []string{"Expect: other"}},
		{502, "has come through this proxy before", "GET", "/v1/a", nil, []string{"Via: 1.1 sluice-test"}},
	}
	cc := g.h2(t)
	for _, tt := range tests {
		resp := g.ask(t, cc, tt.method, tt.path, tt.body, tt.fields...)
		page := all(t, resp)
		assert.Equal(t, tt.status, resp.StatusCode, "%s %s", tt.method, tt.path)
		if tt.says != "" {
			assert.Contains(t, page, tt.says)
			assert.Contains(t, resp.Header.Get("Proxy-Status"), tt.says)
			assert.NotEmpty(t, resp.Header.Get("X-Request-Id"))
		}
		assert.Empty(t, resp.Header["Connection"])
	}
	lines := strings.Join(g.lines(t, len(tests)), "\n")
	assert.Contains(t, lines, `"target":"https://`+g.target+`/v1/a","verdict":"allow"`)
	assert.Contains(t, lines, `"request":"deny","request_reason":"`)
	for _, why := range []string{"the field X-Http-Method-Override overrides what", "a page of another origin asks", "a body of more than 10 bytes"} {
		assert.Contains(t, lines, `","details":"`+why, "the rule allows it")
	}
	assert.Equal(t, 5, strings.Count(lines, `"details":`), "a rule says enough") // one is of the expectation
	assert.NotContains(t, lines, insideSecret)
}

// What a client sends reaches the server as it is, and so does what comes back; nothing is
// invented on the way.
func TestStreamFields(t *testing.T) {
	for _, up := range bothUp {
		t.Run(up[0], func(t *testing.T) {
			var got *http.Request
			g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				got = r.Clone(context.Background())
				got.Trailer = r.Trailer.Clone()
				for _, name := range []string{"Date", "Content-Type"} {
					w.Header()[name] = nil
				}
				w.Header()["X-Twice"] = []string{"1", "2"}
				if up[0] != "h2" {
					w.Header().Set("Connection", "X-Hop")
					w.Header().Set("X-Hop", "1")
				}
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Trailer", "X-Announced")
				io.WriteString(w, "body")
				w.Header().Set("X-Announced", "a")
				w.Header().Set(http.TrailerPrefix+"X-Late", "l")
			}, nil)
			cc := g.h2(t)
			r, err := http.NewRequest("POST", "https://"+g.target+"/", io.MultiReader(strings.NewReader("x")))
			require.NoError(t, err)
			r.Header["User-Agent"] = []string{""}
			r.Header["Te"] = []string{"trailers"}
			r.Header["X-Mine"] = []string{"b", "a"}
			r.Header["Cookie"] = []string{"a=1; b=2"}
			r.Header["Accept-Encoding"] = []string{"br"}
			r.Trailer = http.Header{"X-Mine-Too": {"t"}}
			early := 0
			r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				early = code
				assert.Equal(t, []string{"1", "2"}, h["X-Twice"])
				return nil
			}}))
			resp, err := cc.RoundTrip(r)
			require.NoError(t, err)
			assert.Equal(t, "body", all(t, resp))
			assert.Equal(t, 103, early)
			assert.Equal(t, map[string]string{"h2": "2", "http/1.1": "1.1"}[up[0]]+" sluice-test", resp.Header.Get("Via"))
			delete(resp.Header, "Via")
			assert.Equal(t, http.Header{"X-Twice": {"1", "2"}}, resp.Header)
			assert.Equal(t, http.Header{"X-Announced": {"a"}, "X-Late": {"l"}}, resp.Trailer)
			assert.Equal(t, http.Header{"X-Mine-Too": {"t"}}, got.Trailer)
			assert.Equal(t, "2 sluice-test", got.Header.Get("Via"))
			delete(got.Header, "Via")
			delete(got.Header, "Connection") // of HTTP/1.1 to the server: TE
			assert.Equal(t, http.Header{"Te": {"trailers"}, "X-Mine": {"b", "a"}, "Cookie": {"a=1; b=2"}, "Accept-Encoding": {"br"}}, got.Header)
		})
	}
}

// Bytes go both ways at once, each as soon as it comes.
func TestStreamDuplex(t *testing.T) {
	for _, up := range bothUp {
		t.Run(up[0], func(t *testing.T) {
			g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				w.WriteHeader(200)
				http.NewResponseController(w).Flush()
				b := make([]byte, 100)
				for {
					n, err := r.Body.Read(b)
					w.Write(bytes.ToUpper(b[:n]))
					http.NewResponseController(w).Flush()
					if err != nil {
						return
					}
				}
			}, nil)
			pr, pw := io.Pipe()
			resp := g.ask(t, g.h2(t), "POST", "/", pr)
			for i := range 20 {
				said := fmt.Sprintf("word %02d", i)
				_, err := io.WriteString(pw, said)
				require.NoError(t, err)
				b := make([]byte, len(said))
				_, err = io.ReadFull(resp.Body, b)
				require.NoError(t, err)
				assert.Equal(t, strings.ToUpper(said), string(b))
			}
			pw.Close()
			assert.Empty(t, all(t, resp))
		})
	}
}

// An answer that the server cuts does not end as if it were whole, and one that is longer or
// shorter than it says neither.
func TestStreamCut(t *testing.T) {
	for _, up := range bothUp {
		for _, sized := range []bool{false, true} {
			t.Run(fmt.Sprint(up[0], sized), func(t *testing.T) {
				g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
					if sized {
						w.Header().Set("Content-Length", "100")
					}
					io.WriteString(w, "half")
					http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}, nil)
				resp := g.ask(t, g.h2(t), "GET", "/", nil)
				b, err := io.ReadAll(resp.Body)
				assert.Equal(t, "half", string(b))
				var reset http2.StreamError
				assert.True(t, errors.As(err, &reset), "%v", err)
				assert.Contains(t, g.lines(t, 1)[0], `"status":502`)
			})
		}
	}
}

// A client that resets its stream has the server's reset, whatever that is at; others of the
// connection go on.
func TestStreamReset(t *testing.T) {
	for _, up := range bothUp {
		for _, at := range []string{"head", "answer", "body"} {
			t.Run(up[0]+" "+at, func(t *testing.T) {
				gone, begun := make(chan struct{}, 1), make(chan struct{}, 1)
				g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/other" {
						return
					}
					if at == "answer" {
						w.WriteHeader(200)
						http.NewResponseController(w).Flush()
					}
					begun <- struct{}{}
					if at == "body" && up[0] != "h2" {
						io.Copy(io.Discard, r.Body)
					} else {
						<-r.Context().Done()
					}
					gone <- struct{}{}
				}, nil)
				cc := g.h2(t)
				ctx, cancel := context.WithCancel(t.Context())
				var body io.Reader
				if at == "body" {
					pr, pw := io.Pipe()
					defer pw.Close()
					body = pr
				}
				r, err := http.NewRequestWithContext(ctx, "POST", "https://"+g.target+"/", body)
				require.NoError(t, err)
				done := make(chan struct{})
				go func() {
					defer close(done)
					if resp, err := cc.RoundTrip(r); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				}()
				<-begun
				cancel()
				<-gone
				<-done
				assert.Equal(t, 200, g.ask(t, cc, "GET", "/other", nil).StatusCode)
			})
		}
	}
}

// Many streams of one tunnel share a connection to a server that can; those of another tenant or
// credential would not.
func TestStreamsShare(t *testing.T) {
	g := startInside(t, []string{"h2"}, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }, nil)
	cc := g.h2(t)
	done := make(chan string, 50)
	for i := range 50 {
		go func() {
			said := fmt.Sprint("body ", i)
			r, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.target+"/", strings.NewReader(said))
			resp, err := cc.RoundTrip(r)
			if err != nil {
				done <- err.Error()
				return
			}
			b, _ := io.ReadAll(resp.Body)
			if string(b) != said {
				done <- fmt.Sprintf("%q for %q", b, said)
				return
			}
			done <- ""
		}()
	}
	for range 50 {
		assert.Empty(t, <-done)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	assert.Equal(t, 1, g.conns)
}

// What serves HTTP/2 closes the connection by itself: no loop knows its descriptor then, which is
// the next client's as soon as it is closed.
func TestStreamsAreNobodysDescriptor(t *testing.T) {
	g := startInside(t, []string{"h2"}, func(http.ResponseWriter, *http.Request) {}, nil)
	f := g.frames(t)
	_, err := f.ReadFrame()
	require.NoError(t, err)
	n := 0
	g.door.Each(func(m door.Member) {
		c := m.(*conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		assert.Nil(t, c.loop)
		n++
	})
	assert.Equal(t, 1, n)
}

// framer is a client that writes frames by hand.
type framer struct {
	*http2.Framer
	enc *hpack.Encoder
	buf *bytes.Buffer
	id  uint32
}

func (g *insideGate) frames(t testing.TB) *framer {
	s := g.tunnel(t, "h2")
	_, err := io.WriteString(s, http2.ClientPreface)
	require.NoError(t, err)
	f := &framer{Framer: http2.NewFramer(s, s), buf: new(bytes.Buffer), id: 1}
	f.enc = hpack.NewEncoder(f.buf)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, f.WriteSettings())
	return f
}

// send sends a request, as pairs of names and values.
func (f *framer) send(t testing.TB, body string, end bool, fields ...string) {
	t.Helper()
	f.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		require.NoError(t, f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	require.NoError(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.id, BlockFragment: f.buf.Bytes(), EndHeaders: true, EndStream: end && body == ""}))
	if body != "" {
		require.NoError(t, f.WriteData(f.id, end, []byte(body)))
	}
}

// outcome is what comes back: the status, or how the stream or the connection has ended.
func (f *framer) outcome(t testing.TB) string {
	t.Helper()
	status := ""
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			if s := fr.PseudoValue("status"); s != "" {
				status = s
			}
		case *http2.RSTStreamFrame:
			if fr.ErrCode == http2.ErrCodeNo {
				continue
			}
			return "reset " + fr.ErrCode.String()
		case *http2.GoAwayFrame:
			return "goaway " + fr.ErrCode.String()
		}
		if fr.Header().StreamID == f.id && fr.Header().Flags.Has(http2.FlagDataEndStream) {
			return status
		}
	}
}

// Requests that HTTP/2 can carry, but that could be read in two ways, or as two, in HTTP/1.1.
func TestStreamOddities(t *testing.T) {
	reached := make(chan string, 100)
	for _, up := range bothUp {
		g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return // the beginning of one that turns out wrong
			}
			reached <- r.Method + " " + r.RequestURI + " " + r.Host
		}, func(in *policy.Inspected, _ *Options) { in.Requests = requestRules(t, "GET /v1/**\nPOST /v1/**") })
		head := func(changes ...string) []string {
			all := []string{":method", "GET", ":scheme", "https", ":authority", g.target, ":path", "/v1/a"}
			for i := 0; i < len(changes); i += 2 {
				if at := slices.Index(all, changes[i]); at >= 0 && at%2 == 0 {
					all[at+1] = changes[i+1]
				} else {
					all = append(all, changes[i:i+2]...)
				}
			}
			return all
		}
		const protocol, internal = "reset PROTOCOL_ERROR", "reset INTERNAL_ERROR"
		tests := []struct {
			want, name string
			head       []string
			body       string
		}{
			{"200", "as it should be", head(), ""},
			{"200", "Host, the same", head("host", g.target), ""},
			{protocol, "Host, another", head("host", "other.test"), ""},
			{"421", ":authority, another", head(":authority", "other.test:443"), ""},
			{"421", ":authority, another port", head(":authority", "api.test:1"), ""},
			{protocol, ":authority with a user", head(":authority", "u@"+g.target), ""},
			{"421", "no :authority", []string{":method", "GET", ":scheme", "https", ":path", "/v1/a"}, ""},
			{protocol, ":path without slash", head(":path", "v1/a"), ""},
			{protocol, "no :path", head(":path", ""), ""},
			{"400", ":path *", head(":path", "*"), ""},
			{"400", "OPTIONS *", head(":method", "OPTIONS", ":path", "*"), ""},
			{protocol, ":path absolute", head(":path", "https://"+g.target+"/v1/a"), ""},
			{protocol, ":path absolute, another", head(":path", "https://other.test/v1/a"), ""},
			{"400", ":path with space", head(":path", "/v1/a HTTP/1.1"), ""},
			{"400", ":path with #", head(":path", "/v1/a#b"), ""},
			{"400", ":path with dots", head(":path", "/v1/../admin"), ""},
			{protocol, ":path with CRLF", head(":path", "/v1/a\r\nX: y"), ""},
			{"400", ":scheme http", head(":scheme", "http"), ""},
			{protocol, ":scheme ftp", head(":scheme", "ftp"), ""},
			{protocol, "two :path", append(head(), ":path", "/v1/b"), ""},
			{protocol, ":status", append(head(), ":status", "200"), ""},
			{protocol, "pseudo behind regular", append([]string{"x", "y"}, head()...), ""},
			{protocol, "upper case", head("X-Upper", "y"), ""},
			{protocol, "LF in a value", head("x", "a\nb: c"), ""},
			{protocol, "CR in a value", head("x", "a\rb"), ""},
			{protocol, "NUL in a value", head("x", "a\x00b"), ""},
			{protocol, "space in a name", head("x y", "a"), ""},
			{protocol, ":method with space", head(":method", "GET /v1/b HTTP/1.1\r\nX:"), ""},
			{"400", "Connection", head("connection", "x-mine", "x-mine", "1"), ""},
			{"400", "Transfer-Encoding", head("transfer-encoding", "chunked"), "0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"},
			{"400", "Upgrade", head("upgrade", "websocket"), ""},
			{"200", "HTTP2-Settings, which is dropped", head("http2-settings", "AAMAAABk"), ""},
			{"400", "TE gzip", head("te", "gzip"), ""},
			{protocol, "too long a body", head(":method", "POST", "content-length", "3"), "abcdef"},
			{internal, "too short a body", head(":method", "POST", "content-length", "9"), "abcdef"},
			{internal, "no body at all", head(":method", "POST", "content-length", "9"), ""},
			{"400", "two lengths", append(head(":method", "POST", "content-length", "6"), "content-length", "7"), "abcdef"},
			{protocol + "|400", "no length", head(":method", "POST", "content-length", "x"), "abcdef"},
			{"400", "CONNECT", []string{":method", "CONNECT", ":authority", "other.test:443"}, ""},
			{"400", "CONNECT to it", []string{":method", "CONNECT", ":authority", g.target}, ""},
			{protocol, "extended CONNECT", append(head(":method", "CONNECT"), ":protocol", "websocket"), ""},
		}
		for _, tt := range tests {
			t.Run(up[0]+" "+tt.name, func(t *testing.T) {
				f := g.frames(t)
				f.send(t, tt.body, true, tt.head...)
				assert.Contains(t, strings.Split(tt.want, "|"), f.outcome(t)) // whoever is first
				select {
				case got := <-reached:
					assert.Equal(t, "200", tt.want, got)
				default:
					assert.NotEqual(t, "200", tt.want)
				}
			})
		}
	}
}

// While it drains, a gateway takes no more streams of a tunnel; the one under way goes on.
func TestStreamsDrain(t *testing.T) {
	release := make(chan struct{})
	g := startInside(t, []string{"h2"}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "whole")
	}, nil)
	cc := g.h2(t)
	resp := g.ask(t, cc, "GET", "/", nil)
	down := make(chan struct{})
	go func() {
		defer close(down)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		g.Shutdown(ctx)
	}()
	nettest.Eventually(t, "no stream may begin", func() bool { return !cc.CanTakeNewRequest() })
	close(release)
	assert.Equal(t, "whole", all(t, resp))
	<-down
}

// What is put in force while a stream is under way holds for it; the others of its tunnel go on.
func TestStreamRevoked(t *testing.T) {
	g := startInside(t, []string{"h2"}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, nil)
	resp := g.ask(t, g.h2(t), "GET", "/", nil)
	g.rules(t, "!api.test\n"+allowLoopback)
	assert.GreaterOrEqual(t, g.Revoke(), 1)
	_, err := io.ReadAll(resp.Body)
	assert.Error(t, err)
	assert.Contains(t, g.lines(t, 1)[0], `"revoked"`)
}

// A connection to a server carries the streams of one tenant and one credential.
func TestStreamsApart(t *testing.T) {
	g := startInside(t, []string{"h2"}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RemoteAddr)
	}, func(in *policy.Inspected, _ *Options) {
		in.Headers = []policy.Header{policy.NewHeader("X-Key", "", []byte("one"))}
	})
	first := all(t, g.ask(t, g.h2(t), "GET", "/", nil))
	assert.Equal(t, first, all(t, g.ask(t, g.h2(t), "GET", "/", nil)), "of another tunnel")
	hosts := []policy.Inspected{{Host: g.target, Requests: everything(t), Headers: []policy.Header{policy.NewHeader("X-Key", "", []byte("two"))}}}
	in, err := policy.NewInspect(hosts)
	require.NoError(t, err)
	in.Certificate = g.tenant.Inspect.Certificate
	was := g.tenant.Inspect
	g.tenant.Inspect = in
	g.rules(t, "api.test\n"+allowLoopback)
	second := all(t, g.ask(t, g.h2(t), "GET", "/", nil))
	assert.NotEqual(t, first, second, "with another credential")
	g.tenant.Inspect, g.tenant.Name = was, "other"
	g.rules(t, "api.test\n"+allowLoopback)
	third := all(t, g.ask(t, g.h2(t), "GET", "/", nil))
	assert.NotContains(t, []string{first, second}, third, "of another tenant")
}

// An answer that only the end of its connection delimits is whole for a client of HTTP/2, too, and
// is not when that end is a reset.
func TestStreamUntilClose(t *testing.T) {
	for name, reset := range map[string]bool{"closed": false, "reset": true} {
		t.Run(name, func(t *testing.T) {
			g := startInside(t, []string{"http/1.1"}, func(w http.ResponseWriter, r *http.Request) {
				c, _, err := w.(http.Hijacker).Hijack()
				require.NoError(t, err)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Field: 1\r\n\r\nbody")
				if reset {
					c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
					c = c.(*tls.Conn).NetConn()
				}
				c.Close()
			}, nil)
			resp := g.ask(t, g.h2(t), "GET", "/", nil)
			b, err := io.ReadAll(resp.Body)
			assert.Equal(t, reset, err != nil, "%v", err)
			if !reset {
				assert.Equal(t, "body", string(b))
			}
			assert.Equal(t, "1", resp.Header.Get("X-Field"))
		})
	}
}

// What the server has not begun with is sent again, once, over another connection; what it may have
// begun with is not.
func TestStreamUntouched(t *testing.T) {
	for _, tt := range []struct {
		want   string // statuses
		method string
		body   string
		code   http2.ErrCode
	}{
		{"200", "GET", "", http2.ErrCodeRefusedStream},
		{"200", "POST", "", http2.ErrCodeRefusedStream},
		{"502", "POST", "", http2.ErrCodeInternal},
		{"502", "POST", "body", http2.ErrCodeCancel},
		{"502", "GET", "", http2.ErrCodeInternal}, // on a connection that is new
	} {
		t.Run(fmt.Sprint(tt.method, tt.body, tt.code), func(t *testing.T) {
			g, streams := startRaw(t, func(f *framer, n int, id uint32) {
				if n == 1 {
					f.WriteRSTStream(id, tt.code)
					return
				}
				f.id = id
				f.answer(t, ":status", "200")
			})
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
			}
			resp := g.ask(t, g.h2(t), tt.method, "/", body)
			assert.Equal(t, tt.want, fmt.Sprint(resp.StatusCode))
			all(t, resp)
			assert.EqualValues(t, map[string]int{"200": 2, "502": 1}[tt.want], streams.Load())
		})
	}
	// A body that has come with the head, as that of a stream does by chance only.
	g, streams := startRaw(t, func(f *framer, n int, id uint32) {
		if f.id = id; n == 1 {
			f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			return
		}
		f.answer(t, ":status", "200")
	})
	c := g.tunnel(t, "http/1.1")
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nbody", g.target)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
	assert.EqualValues(t, 2, streams.Load())
	g, streams = startRaw(t, func(f *framer, n int, id uint32) { f.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
	assert.Equal(t, 502, g.ask(t, g.h2(t), "GET", "/", nil).StatusCode)
	assert.EqualValues(t, 2, streams.Load(), "no third time")
}

// What had not come with the head is gone: a request is not sent again without it, also when a server has
// refused it that had taken all of it.
func TestStreamUntouchedBehindItsBody(t *testing.T) {
	gotHead := make(chan struct{}, 2)
	g, streams := startRaw(t, func(f *framer, n int, id uint32) {
		gotHead <- struct{}{}
		for f.id = id; n == 1; {
			fr, err := f.ReadFrame()
			if !assert.NoError(t, err) {
				return
			}
			if data, ok := fr.(*http2.DataFrame); ok && data.StreamEnded() {
				f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				return
			}
		}
		f.answer(t, ":status", "200")
	})
	for _, length := range []int64{3000, -1} {
		streams.Store(0)
		body, w := io.Pipe()
		go func() {
			<-gotHead
			w.Write(make([]byte, 3000))
			w.Close()
		}()
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.target+"/", body)
		require.NoError(t, err)
		r.ContentLength = length
		resp, err := g.h2(t).RoundTrip(r)
		require.NoError(t, err)
		assert.Equal(t, 502, resp.StatusCode)
		all(t, resp)
		assert.EqualValues(t, 1, streams.Load())
	}
}

// startRaw starts a gateway in front of a server of HTTP/2 that writes frames by hand: play is told
// of each request's head, of which n have come to the server.
func startRaw(t testing.TB, play func(f *framer, n int, id uint32)) (*insideGate, *atomic.Int64) {
	t.Helper()
	of := nettest.NewCA(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{of.Issue("api.test")}})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	streams := new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				f := &framer{Framer: http2.NewFramer(c, c), buf: new(bytes.Buffer)}
				f.enc = hpack.NewEncoder(f.buf)
				f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				f.WriteSettings()
				for {
					fr, err := f.ReadFrame()
					if err != nil {
						return
					}
					switch fr := fr.(type) {
					case *http2.SettingsFrame:
						if !fr.IsAck() {
							f.WriteSettingsAck()
						}
					case *http2.MetaHeadersFrame:
						play(f, int(streams.Add(1)), fr.StreamID)
					}
				}
			}()
		}
	}()
	g := &insideGate{}
	g.use(t, of.Pool, l.Addr().String(), nil)
	return g, streams
}

// answer is an answer without a body.
func (f *framer) answer(t testing.TB, fields ...string) {
	f.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		require.NoError(t, f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.id, BlockFragment: f.buf.Bytes(), EndHeaders: true, EndStream: true})
}

// A client that asks whether its body is wanted is told what the server says: that it is, or an
// answer for which it need not send any.
func TestStreamExpect(t *testing.T) {
	for _, up := range bothUp {
		t.Run(up[0], func(t *testing.T) {
			g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					w.WriteHeader(http.StatusExpectationFailed)
					return
				}
				io.Copy(w, r.Body)
			}, func(in *policy.Inspected, _ *Options) {
				in.Requests = requestRules(t, "POST /\nPOST /no")
				in.MaxBody = 10
			})
			c := g.tunnel(t, "h2", "http/1.1")
			tr, err := http2.ConfigureTransports(&http.Transport{ExpectContinueTimeout: time.Hour})
			require.NoError(t, err)
			cc, err := tr.NewClientConn(c)
			require.NoError(t, err)
			defer cc.Close()
			for _, tt := range []struct {
				status     int
				path, body string
				asked      bool // for the body
			}{
				{200, "/", "0123456789", true},
				{417, "/no", "0123456789", false},
				{403, "/denied", "0123456789", false},
				{413, "/", "0123456789a", false},
				{200, "/", "another", true},
			} {
				body := &readOnce{Reader: strings.NewReader(tt.body)}
				r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.target+tt.path, body)
				require.NoError(t, err)
				r.ContentLength = int64(len(tt.body))
				r.Header.Set("Expect", "100-continue")
				resp, err := cc.RoundTrip(r)
				require.NoError(t, err)
				said := all(t, resp)
				resp.Body.Close()
				assert.Equal(t, tt.status, resp.StatusCode, tt.path)
				assert.Equal(t, tt.asked, body.read.Load(), "%s: whether the body was asked for", tt.path)
				if tt.status == 200 {
					assert.Equal(t, tt.body, said)
				}
			}
		})
	}
}

// readOnce knows whether it was read.
type readOnce struct {
	io.Reader
	read atomic.Bool
}

func (r *readOnce) Read(b []byte) (int, error) {
	r.read.Store(true)
	return r.Reader.Read(b)
}

// A server that knows nothing of Expect gets the body all the same.
func TestStreamExpectUnheeded(t *testing.T) {
	got := make(chan string, 1)
	g := startInside(t, []string{"http/1.1"}, func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := w.(http.Hijacker).Hijack() // which has said no 100
		require.NoError(t, err)
		defer c.Close()
		b := make([]byte, 4)
		io.ReadFull(buf, b)
		got <- string(b)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	}, nil)
	tr, err := http2.ConfigureTransports(&http.Transport{ExpectContinueTimeout: time.Hour})
	require.NoError(t, err)
	cc, err := tr.NewClientConn(g.tunnel(t, "h2"))
	require.NoError(t, err)
	defer cc.Close()
	assert.Equal(t, 204, g.ask(t, cc, "POST", "/", strings.NewReader("body"), "Expect: 100-continue").StatusCode)
	assert.Equal(t, "body", <-got)
}

// A request that announces a trailer section brings it to the server also behind a body of which it has
// said the length. Behind none there are no trailers, and nobody waits for them.
func TestStreamTrailerBehindLength(t *testing.T) {
	for _, up := range bothUp {
		t.Run(up[0], func(t *testing.T) {
			g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				fmt.Fprint(w, string(b), err, r.Trailer)
			}, func(in *policy.Inspected, _ *Options) { in.MaxBody = 5 })
			cc := g.h2(t)
			for body, want := range map[string]string{"": "<nil> map[]", "body": "body<nil> map[X-Sum:[1]]", "bodies": "413"} {
				r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.target+"/", strings.NewReader(body))
				require.NoError(t, err)
				r.ContentLength = int64(len(body))
				r.Trailer = http.Header{"X-Sum": {"1"}}
				resp, err := cc.RoundTrip(r)
				require.NoError(t, err)
				got := all(t, resp)
				resp.Body.Close()
				if want == "413" {
					assert.Equal(t, 413, resp.StatusCode)
					continue
				}
				assert.Equal(t, want, got)
			}
			f := g.frames(t)
			f.send(t, "bo", false, ":method", "POST", ":scheme", "https", ":path", "/", ":authority", g.target, "content-length", "4", "trailer", "x-sum")
			f.buf.Reset()
			require.NoError(t, f.enc.WriteField(hpack.HeaderField{Name: "x-sum", Value: "1"}))
			require.NoError(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.id, BlockFragment: f.buf.Bytes(), EndHeaders: true, EndStream: true}))
			assert.NotEqual(t, "200", f.outcome(t), "a body that is shorter is not the whole")
		})
	}
}
