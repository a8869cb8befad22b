package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestForwardRequestHead(t *testing.T) {
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-A: b\r\nKeep-Alive: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\n\r\nok")
	})
	g := start(t, allowLoopback, names{"origin.test": {loopback}}, nil)
	c := g.dial(t)
	c.send(t, "GET http://ORIGIN.test.:%s/a?b HTTP/1.1\r\nHost: lies.test\r\nAccept: */*\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nKeep-Alive: 1\r\nX-Stays: 1\r\n\r\n", portOf(server))
	assert.Equal(t, "GET /a?b HTTP/1.1\r\nHost: origin.test:"+portOf(server)+"\r\nAccept: */*\r\nX-Stays: 1\r\nVia: 1.1 sluice-test\r\nConnection: TE\r\nTE: trailers\r\n\r\n", <-seen)
	assert.Equal(t, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-A: b\r\nVia: 1.1 sluice-test\r\nConnection: close\r\n\r\n", c.head(t))
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "ok", string(b))
	line := g.lines(t, 1)[0]
	assert.Contains(t, line, `"method":"GET","target":"http://ORIGIN.test.:`+portOf(server)+`/a?b","verdict":"allow"`)
	assert.Contains(t, line, `"status":200,"received":0,"sent":2,`)
}

func TestForwardHostForms(t *testing.T) {
	tests := []struct{ want, target string }{
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "http://127.0.0.1:PORT"},
		{"GET /?q HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "http://127.0.0.1:PORT?q"},
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "HTTP://[::ffff:127.0.0.1]:PORT/"},
		{"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "http://127.0.0.1:PORT"},
	}
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, nil)
	for _, tt := range tests {
		c := g.dial(t)
		method, _, _ := strings.Cut(tt.want, " ")
		c.send(t, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, strings.ReplaceAll(tt.target, "PORT", portOf(server)))
		assert.Contains(t, <-seen, strings.ReplaceAll(tt.want, "PORT", portOf(server)))
		assert.Contains(t, c.head(t), "HTTP/1.1 204 No Content\r\n")
		c.Close()
	}
}

func TestForwardRefusals(t *testing.T) {
	g := start(t, "!*.example.com\n"+allowLoopback, nil, nil)
	tests := []struct {
		want string
		in   string
		keep bool // the connection can be used again
	}{
		{"403 Egress denied: line 1 !*.example.com", "GET http://www.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", true},
		{"403 Egress denied: line 1 !*.example.com", "POST http://www.example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", true},
		{"403 Egress denied: line 1 !*.example.com", "POST http://www.example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\nabc", false},
		{"400 Bad Request: this is a proxy, not a web server", "GET / HTTP/1.1\r\nHost: sluice:8080\r\n\r\n", true},
		{"400 Bad Request: this is a proxy, not a web server", "GET /metrics HTTP/1.1\r\nHost: sluice:8080\r\n\r\n", true},
		{"400 Bad Request: scheme other than http and https", "GET ftp://a.test/ HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"400 Bad Request: more than one Host field", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", false},
		{"400 Bad Request: both Content-Length and Transfer-Encoding", "POST http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"400 Bad Request: line ends in a bare LF, not CRLF", "GET http://127.0.0.1/ HTTP/1.1\nHost: x\n\n", false},
		{"431 Request Header Fields Too Large: head larger than the limit", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 70000) + "\r\n\r\n", false},
		{"431 Request Header Fields Too Large: more header fields than the limit", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", false},
		{"505 HTTP Version Not Supported: HTTP version not supported, want HTTP/1.0 or HTTP/1.1", "GET http://127.0.0.1/ HTTP/2.0\r\nHost: x\r\n\r\n", false},
		{"417 Expectation Failed: expectation other than 100-continue", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n", false},
		{"502 Bad Gateway: the request has come through this proxy before (Via)", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 other, 1.1 sluice-test\r\n\r\n", true},
	}
	for _, tt := range tests {
		c := g.dial(t)
		go c.Write([]byte(tt.in))
		res, body := c.response(t, "GET")
		assert.Equal(t, tt.want, res.Status)
		assert.NotEmpty(t, res.Header.Get("X-Request-Id"))
		assert.Contains(t, body, res.Header.Get("X-Request-Id"))
		assert.Contains(t, body, "net-team@example.com")
		assert.Equal(t, !tt.keep, res.Close, tt.want)
		if tt.keep {
			c.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			res, _ = c.response(t, "GET")
			assert.Equal(t, 400, res.StatusCode)
		}
		c.Close()
	}
}

func TestAnswerPages(t *testing.T) {
	g := start(t, "!*.example.com # secret comment", nil, nil)
	ask := func(method, accept string) (*http.Response, string) {
		c := g.dial(t)
		c.send(t, "%s http://www.example.com/<x> HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n", method, accept)
		return c.response(t, method)
	}
	res, body := ask("GET", "text/html,application/xhtml+xml,*/*;q=0.8")
	assert.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
	assert.Contains(t, body, "<dd>GET http://www.example.com/&lt;x&gt;</dd>")
	assert.Contains(t, body, "<dd>line 1 !*.example.com</dd>")

	res, body = ask("GET", "*/*")
	assert.Equal(t, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))
	assert.Equal(t, "sluice: 403 Egress denied\n\nAsked for:    GET http://www.example.com/<x>\nDecided by:   line 1 !*.example.com\n"+
		"Whom to ask:  net-team@example.com\nRequest id:   "+res.Header.Get("X-Request-Id")+"\n", body)

	res, body = ask("GET", "text/html;q=0.5, application/json")
	assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
	assert.JSONEq(t, `{"status":403,"title":"Egress denied","error":"http_request_denied","request":"GET http://www.example.com/<x>",
		"decided_by":"line 1 !*.example.com","contact":"net-team@example.com","request_id":"`+res.Header.Get("X-Request-Id")+`"}`, body)

	res, body = ask("HEAD", "*/*")
	assert.Empty(t, body)
	assert.Positive(t, res.ContentLength)
}

func TestHideRules(t *testing.T) {
	g := start(t, "!*.example.com", nil, func(o *Options) { o.HideRules = true })
	c := g.dial(t)
	c.send(t, "CONNECT www.example.com:443 HTTP/1.1\r\n\r\n")
	res, body := c.response(t, "GET")
	assert.Equal(t, "403 Egress denied: line 1", res.Status)
	assert.Equal(t, `sluice; error=http_request_denied; details="Egress denied: line 1"`, res.Header.Get("Proxy-Status"))
	assert.NotContains(t, body, "*.example.com")
	assert.Contains(t, g.lines(t, 1)[0], `"reason":"line 1 !*.example.com"`) // the log is for those who wrote the rule
}

// A client that resolves names by itself must learn why the rule for the name did
// not help.
func TestAddressAgainstNameRules(t *testing.T) {
	g := start(t, "*.example.com", nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n")
	res, body := c.response(t, "GET")
	assert.Equal(t, "403 Egress denied: default", res.Status)
	assert.Contains(t, body, "Rules for names never match an address.")
}

// A real client and a real server, methods and bodies of all framings.
func TestForwardBodies(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Len", fmt.Sprint(len(b)))
		w.Header().Set("X-Encoding", strings.Join(r.TransferEncoding, ","))
		w.Header().Set("X-Trailer-Got", r.Trailer.Get("X-T"))
		if r.URL.Query().Get("chunked") != "" {
			w.Header().Set("Trailer", "X-Sum")
			w.(http.Flusher).Flush()
		}
		w.Write(b)
		w.Header().Set("X-Sum", "42")
	})
	g := start(t, allowLoopback, nil, nil)
	client := g.client(t)
	for _, size := range []int{0, 1, 3000, 5000, 100_000, 5_000_000} {
		for _, chunkedUp := range []bool{false, true} {
			for _, query := range []string{"", "?chunked=1"} {
				body := bytes.Repeat([]byte("x"), size)
				var r io.Reader = bytes.NewReader(body)
				if chunkedUp {
					r = onlyReader{r}
				}
				req, err := http.NewRequest("POST", s.URL+query, r)
				require.NoError(t, err)
				if chunkedUp {
					req.Trailer = http.Header{"X-T": {"trailed"}}
				}
				res, err := client.Do(req)
				require.NoError(t, err)
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				require.NoError(t, err)
				name := fmt.Sprintf("%d bytes, chunked up %v, down %q", size, chunkedUp, query)
				require.True(t, bytes.Equal(body, got), name)
				assert.Equal(t, fmt.Sprint(size), res.Header.Get("X-Len"), name)
				if chunkedUp && size > 0 {
					assert.Equal(t, "chunked", res.Header.Get("X-Encoding"), name)
					assert.Equal(t, "trailed", res.Header.Get("X-Trailer-Got"), name)
				}
				if query != "" {
					assert.Equal(t, "42", res.Trailer.Get("X-Sum"), name)
				}
			}
		}
	}
}

func TestForwardBodiless(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		case "/range":
			http.ServeContent(w, r, "f", time.Time{}, strings.NewReader("0123456789"))
		default:
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "0123456789")
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t) // one connection: a wrong framing would upset the next answer
	ask := func(method, path, field string) (*http.Response, string) {
		c.send(t, "%s %s%s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, s.URL, path, field)
		return c.response(t, method)
	}
	for range 2 {
		res, body := ask("HEAD", "/", "")
		assert.EqualValues(t, 10, res.ContentLength)
		assert.Empty(t, body)
		res, _ = ask("GET", "/204", "")
		assert.Equal(t, 204, res.StatusCode)
		res, _ = ask("GET", "/304", "")
		assert.Equal(t, 304, res.StatusCode)
		res, body = ask("GET", "/range", "Range: bytes=2-4\r\n")
		assert.Equal(t, 206, res.StatusCode)
		assert.Equal(t, "234", body)
		_, body = ask("GET", "/", "")
		assert.Equal(t, "0123456789", body)
	}
}

func TestPipelining(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, b)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	var in strings.Builder
	for i := range 50 {
		fmt.Fprintf(&in, "GET %s/%d HTTP/1.1\r\nHost: x\r\n\r\n", s.URL, i)
		fmt.Fprintf(&in, "POST %s/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", s.URL, i)
		fmt.Fprintf(&in, "\r\nPUT %s/%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", s.URL, i) // an empty line before
	}
	go c.Write([]byte(in.String()))
	for i := range 50 {
		_, body := c.response(t, "GET")
		assert.Equal(t, fmt.Sprintf("GET /%d ", i), body)
		_, body = c.response(t, "POST")
		assert.Equal(t, fmt.Sprintf("POST /%d body", i), body)
		_, body = c.response(t, "PUT")
		assert.Equal(t, fmt.Sprintf("PUT /%d abc", i), body)
	}
}

// Server-sent events come through one by one, when they are sent.
func TestEventsWithoutDelay(t *testing.T) {
	next := make(chan struct{})
	s := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next // not before the client has seen this one
		}
	})
	g := start(t, allowLoopback, nil, nil)
	res, err := g.client(t).Get(s.URL)
	require.NoError(t, err)
	defer res.Body.Close()
	for i := range 3 {
		want := fmt.Sprintf("data: %d\n\n", i)
		got := make([]byte, len(want))
		_, err := io.ReadFull(res.Body, got)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
		next <- struct{}{}
	}
}

func TestExpectContinue(t *testing.T) {
	t.Run("the server says 100", func(t *testing.T) {
		server := rawOrigin(t, func(c *rawClient) {
			head := c.head(t)
			assert.Contains(t, head, "Expect: 100-continue\r\n")
			c.send(t, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 5)
			io.ReadFull(c.r, body)
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", body)
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", server)
		assert.Equal(t, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", c.head(t))
		assert.Equal(t, "HTTP/1.1 100 Continue\r\n\r\n", c.head(t))
		c.send(t, "hello")
		res, body := c.response(t, "POST")
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "hello", body)
	})
	t.Run("the server refuses", func(t *testing.T) {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			c.r.ReadByte()
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 500000\r\n\r\n", server)
		res, body := c.response(t, "POST")
		assert.Equal(t, 413, res.StatusCode)
		assert.Equal(t, "no", body)
		assert.True(t, res.Close)
	})
}

// A server may answer before it has read the body; the answer comes through.
func TestEarlyAnswer(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		c.send(t, "HTTP/1.1 401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		c.CloseWrite()
		io.CopyN(io.Discard, c.r, 1<<20)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", server)
	go io.Copy(c.TCPConn, neverEnding('x'))
	res, body := c.response(t, "POST")
	assert.Equal(t, 401, res.StatusCode)
	assert.Equal(t, "no", body)
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestUpgrade(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		head := c.head(t)
		assert.Contains(t, head, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		assert.Contains(t, head, "Sec-WebSocket-Key: k\r\n")
		c.send(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\nhello")
		io.Copy(c, c.r)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nearly", server)
	assert.Equal(t, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nVia: 1.1 sluice-test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", c.head(t))
	c.send(t, "+late")
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "helloearly+late", string(b))
	assert.Contains(t, g.lines(t, 1)[0], `"status":101,"received":10,"sent":15,`)
}

// A switch that nobody asked for must not become a tunnel.
func TestUnaskedSwitch(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		c.send(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
	res, _ := c.response(t, "GET")
	assert.Equal(t, "502 Bad Gateway: the server switched protocols unasked", res.Status)
}

func TestServerGarbage(t *testing.T) {
	tests := []struct {
		want string
		in   string
	}{
		{"502 Bad Gateway: the server's answer: malformed status line", "SSH-2.0-x\r\n"},
		{"502 Bad Gateway: the server's answer: more than one Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
		{"502 Bad Gateway: the server's answer: line ends in a bare LF, not CRLF", "HTTP/1.1 200 OK\nContent-Length: 1\n\na"},
		{"502 Bad Gateway: the server closed the connection before its answer", ""},
		{"502 Bad Gateway: the server closed the connection before its answer", "HTTP/1.1 200 OK\r\nConte"},
		{"502 Bad Gateway: the server's answer: head larger than the limit", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 70000)},
	}
	for _, tt := range tests {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "%s", tt.in)
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		res, _ := c.response(t, "GET")
		assert.Equal(t, tt.want, res.Status)
	}
}

// An answer that is cut off must not look whole to the client.
func TestTruncatedAnswer(t *testing.T) {
	for _, head := range []string{"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\n%s", head)
		})
		g := start(t, allowLoopback, nil, nil)
		res, err := g.client(t).Get("http://" + server)
		require.NoError(t, err)
		_, err = io.ReadAll(res.Body)
		assert.Error(t, err, head)
		res.Body.Close()
		assert.Contains(t, g.lines(t, 1)[0], `"error":"connection_terminated"`)
	}
	t.Run("reset before the close that ends it", func(t *testing.T) {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\n\r\nabc")
			c.r.ReadByte() // the client has seen the head
			c.SetLinger(0)
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		c.head(t)
		g.conns.each(func(c *conn) { c.upstream.Load().TCP.Write([]byte("x")) })
		_, err := io.ReadAll(c.r)
		assert.Error(t, err)
	})
}

// HTTP/1.0 knows neither chunks nor interim answers, and keeps alive when asked.
func TestHTTP10Client(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				return
			}
			c.head(t)
			if strings.Contains(line, "/chunked") {
				c.send(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: y\r\n\r\n")
			} else {
				c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", server)
	assert.Contains(t, c.head(t), "Connection: keep-alive\r\n")
	io.CopyN(io.Discard, c.r, 2)
	c.send(t, "GET http://%s/chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", server)
	assert.Equal(t, "HTTP/1.1 200 OK\r\nVia: 1.1 sluice-test\r\nConnection: close\r\n\r\n", c.head(t))
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "abcde", string(b))
}

func TestMaxForwards(t *testing.T) {
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "TRACE http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nCookie: secret\r\nX-Y: z\r\n\r\n", server)
	res, body := c.response(t, "TRACE")
	assert.Equal(t, "message/http", res.Header.Get("Content-Type"))
	assert.Equal(t, "TRACE http://"+server+"/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nX-Y: z\r\n", body)
	c.send(t, "OPTIONS http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", server)
	res, _ = c.response(t, "OPTIONS")
	assert.Equal(t, 200, res.StatusCode)
	assert.NotEmpty(t, res.Header.Get("Allow"))
	c.send(t, "TRACE http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n", server)
	assert.Contains(t, <-seen, "Max-Forwards: 2\r\n")
	c.response(t, "TRACE")
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", server) // means nothing for GET
	assert.Contains(t, <-seen, "Max-Forwards: 0\r\n")
	c.response(t, "GET")
}

func TestForwardedFor(t *testing.T) {
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 204 OK\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, func(o *Options) { o.ForwardedFor = true })
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n", server)
	assert.Contains(t, <-seen, "X-Forwarded-For: 10.1.1.1, 127.0.0.1\r\n")
}

func TestHTTPSInAbsoluteForm(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.Host, len(b))
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	port := portOf(s.Listener.Addr().String())
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate()) // for example.com
	known := names{"example.com": {loopback}, "wrong.test": {loopback}}
	g := start(t, allowLoopback, known, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
	c := g.dial(t)
	for range 3 { // the second over a pooled connection
		c.send(t, "POST https://example.com:%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", port)
		res, body := c.response(t, "POST")
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "example.com:"+port+" 3", body)
		c.send(t, "GET https://example.com:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", port)
		_, body = c.response(t, "GET")
		assert.Equal(t, "example.com:"+port+" 0", body)
	}
	c.send(t, "POST https://example.com:%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n", port)
	io.CopyN(c.TCPConn, neverEnding('x'), 200000)
	_, body := c.response(t, "POST")
	assert.Equal(t, "example.com:"+port+" 200000", body)
	c.send(t, "GET https://wrong.test:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", port)
	res, _ := c.response(t, "GET")
	assert.Equal(t, 502, res.StatusCode)
	assert.Contains(t, res.Header.Get("Proxy-Status"), "error=tls_certificate_error")
	c = g.dial(t)
	c.send(t, "GET https://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n")
	res, _ = c.response(t, "GET")
	assert.Contains(t, res.Header.Get("Proxy-Status"), "error=connection_refused")
}

// A pooled connection serves the next request, and each request is judged by the
// rules in force.
func TestPooling(t *testing.T) {
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		conns.Add(1)
		for {
			if _, err := c.r.Peek(1); err != nil {
				return
			}
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	get := func(want int) {
		t.Helper()
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		res, _ := c.response(t, "GET")
		require.Equal(t, want, res.StatusCode)
	}
	for range 5 {
		get(200)
	}
	assert.EqualValues(t, 1, conns.Load())
	g.rules(t, "!127.0.0.1\n*")
	get(403)
	g.rules(t, allowLoopback)
	get(200)
	assert.EqualValues(t, 1, conns.Load())
}

// A server that closes an idle connection costs no request: those that may be
// repeated are, those that may not never use an old connection.
func TestStalePool(t *testing.T) {
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		conns.Add(1)
		for range 2 { // the second request on each connection is cut off
			if _, err := c.r.Peek(1); err != nil {
				return
			}
			c.head(t)
			if conns.Load()%2 == 1 {
				c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				c.r.Peek(1)
				return
			}
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	for range 4 {
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		res, _ := c.response(t, "GET")
		assert.Equal(t, 200, res.StatusCode)
	}
	before := conns.Load()
	c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", server)
	res, _ := c.response(t, "POST")
	assert.Equal(t, 200, res.StatusCode)
	assert.Equal(t, before+1, conns.Load(), "a POST goes over a connection of its own")
}

// What a server sends unasked is nobody's answer.
func TestPoolDropsTalkers(t *testing.T) {
	talk := make(chan struct{})
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		n := conns.Add(1)
		c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 1 {
			<-talk
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			talk <- struct{}{}
		}
		c.r.Peek(1)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	ask := func() string {
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		_, body := c.response(t, "GET")
		return body
	}
	assert.Equal(t, "1", ask())
	require.Equal(t, 1, g.Gate.Pool.Len())
	talk <- struct{}{}
	<-talk // it is in the socket: loopback delivers before the write returns
	assert.Equal(t, "2", ask())
}

func TestConcurrentClients(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	g := start(t, allowLoopback, nil, nil)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			client := g.client(t)
			for j := range 20 {
				path := fmt.Sprintf("/%d/%d", i, j)
				res, err := client.Get(s.URL + path)
				if !assert.NoError(t, err) {
					return
				}
				b, _ := io.ReadAll(res.Body)
				res.Body.Close()
				assert.Equal(t, path, string(b))
			}
		})
	}
	wg.Wait()
	g.lines(t, 400)
}
