package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/door"
)

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
		g.door.Each(func(m door.Member) { m.(*conn).upstream.Load().TCP.Blocking().Write([]byte("x")) })
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

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}
