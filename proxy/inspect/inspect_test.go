package inspect

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is a front door that answers each request of a pipe by a script.
type door struct {
	mu    sync.Mutex
	pipes int
	wg    sync.WaitGroup
}

// serve starts a client's connection to a Server whose front door is script. It is given each
// request, whose body is read, and what to write to.
func serve(t *testing.T, o Options, script func(w net.Conn, head string)) (*http2.ClientConn, *Server, *door) {
	t.Helper()
	o.Head, o.Answer = http1.Limits{MaxHead: 64 << 10, MaxFields: 100}, http1.Limits{MaxHead: 64 << 10, MaxFields: 100}
	s, d := New(o), new(door)
	authority := nettest.NewCA(t)
	client, server := net.Pipe()
	secure := tls.Server(server, &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{authority.Issue("api.test")}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if secure.Handshake() != nil {
			return
		}
		s.Serve(context.Background(), secure, func() (*sock.Conn, func(), error) {
			near, far, err := sock.Pair()
			if err != nil {
				return nil, nil, err
			}
			d.mu.Lock()
			d.pipes++
			d.mu.Unlock()
			d.wg.Go(func() {
				c := sock.New(far, near.Local()).Blocking()
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					var head strings.Builder
					for {
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						if head.WriteString(line); line == "\r\n" {
							break
						}
					}
					script(c, head.String())
				}
			})
			return near, func() {}, nil
		})
	}()
	own := tls.Client(client, &tls.Config{ServerName: "api.test", RootCAs: authority.Pool, NextProtos: []string{"h2"}})
	require.NoError(t, own.Handshake())
	cc, err := (&http2.Transport{DisableCompression: true}).NewClientConn(own)
	require.NoError(t, err)
	t.Cleanup(func() {
		cc.Close()
		<-done
		d.wg.Wait()
	})
	return cc, s, d
}

func get(t *testing.T, cc *http2.ClientConn, path string) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.test"+path, nil)
	require.NoError(t, err)
	resp, err := cc.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// What the front door says is what the client gets; a part of it is never the whole, and what
// goproxy would say of its own is nothing.
func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		says, want string
		cut        bool
	}{
		"whole":                {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok", false},
		"in chunks":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok", false},
		"empty":                {"HTTP/1.1 204 No Content\r\n\r\n", "204 ", false},
		"too short":            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "", true},
		"chunks cut":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "", true},
		"cut in a trailer":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n", "", true},
		"no end but the close": {"HTTP/1.1 200 OK\r\n\r\nok", "", true},
		"no answer":            {"", "", true},
		"a part of a head":     {"HTTP/1.1 200 OK\r\nX", "", true},
		"no HTTP":              {"220 smtp.test\r\n", "", true},
		"switched":             {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			cc, _, _ := serve(t, Options{}, func(c net.Conn, _ string) {
				io.WriteString(c, tt.says)
				c.Close()
			})
			resp, body, err := get(t, cc, "/")
			if tt.cut {
				assert.ErrorContains(t, err, "stream error")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, fmt.Sprint(resp.StatusCode, " ", body))
		})
	}
}

// Fields that speak of the connection to the front door do not travel, nor is any invented.
func TestAnswerFields(t *testing.T) {
	cc, _, _ := serve(t, Options{}, func(c net.Conn, _ string) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nX-Stays: 1\r\nx-stays: 2\r\n\r\n<html")
	})
	resp, _, err := get(t, cc, "/")
	require.NoError(t, err)
	assert.Equal(t, http.Header{"Content-Length": {"5"}, "X-Stays": {"1", "2"}}, resp.Header)
}

// Requests one after the other share a pipe, and none comes into one that is not quiet.
func TestPipes(t *testing.T) {
	cc, _, d := serve(t, Options{}, func(c net.Conn, head string) {
		says := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		if strings.HasPrefix(head, "GET /close ") {
			says = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
		}
		if strings.HasPrefix(head, "GET /unasked ") {
			says += "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
		}
		io.WriteString(c, says)
	})
	for i, tt := range []struct {
		path  string
		pipes int
	}{{"/", 1}, {"/", 1}, {"/close", 1}, {"/", 2}, {"/unasked", 2}, {"/", 3}} {
		_, body, err := get(t, cc, tt.path)
		require.NoError(t, err, i)
		assert.Equal(t, "ok", body)
		d.mu.Lock()
		assert.Equal(t, tt.pipes, d.pipes, "%d %s", i, tt.path)
		d.mu.Unlock()
	}
}

// A client that takes nothing of an answer has its stream reset, and nothing else.
func TestStalled(t *testing.T) {
	cc, _, _ := serve(t, Options{Stalled: 200 * time.Millisecond}, func(c net.Conn, head string) {
		if strings.HasPrefix(head, "GET /large ") {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
			c.Write(make([]byte, 100000000))
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.test/large", nil)
	require.NoError(t, err)
	resp, err := cc.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, body, err := get(t, cc, "/")
	require.NoError(t, err)
	assert.Equal(t, "ok", body)
	nettest.Eventually(t, "the stream is reset", func() bool { return cc.State().StreamsActive == 0 })
	_, err = io.Copy(io.Discard, resp.Body)
	assert.ErrorContains(t, err, "stream error")
}

// goproxy by itself leads nowhere: neither by its transport nor by its diallers, which serve what
// has not come through the adaptor.
func TestGoproxyLeadsNowhere(t *testing.T) {
	reached := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer server.Close()
	for _, method := range []string{"GET", "CONNECT"} {
		front := httptest.NewServer(handler())
		c, err := net.Dial("tcp", front.Listener.Addr().String())
		require.NoError(t, err)
		target := server.Listener.Addr().String()
		if method == "GET" {
			target = server.URL + "/"
		}
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, target)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
		front.Close()
	}
	assert.Empty(t, reached)
}

// A CONNECT is refused by the front door, and goproxy does not see it.
func TestConnect(t *testing.T) {
	heads := make(chan string, 1)
	cc, s, _ := serve(t, Options{}, func(c net.Conn, head string) {
		heads <- head
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
	})
	s.goproxy = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("goproxy has it") })
	r, err := http.NewRequestWithContext(t.Context(), "CONNECT", "https://other.test:443", nil)
	require.NoError(t, err)
	r.Host = "other.test:443"
	r.Header["User-Agent"] = []string{""}
	resp, err := cc.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "no", string(b))
	assert.Equal(t, 400, resp.StatusCode)
	assert.Equal(t, "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n", <-heads)
}

// Drain has a client send no more.
func TestDrain(t *testing.T) {
	cc, s, _ := serve(t, Options{}, func(c net.Conn, _ string) { io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n") })
	_, _, err := get(t, cc, "/")
	require.NoError(t, err)
	s.Drain()
	nettest.Eventually(t, "no stream may begin", func() bool { return !cc.CanTakeNewRequest() })
}

// A client that resets its stream while interim answers are sent has nobody write what another
// reads, which the race detector would tell.
func TestInterimReset(t *testing.T) {
	cc, _, _ := serve(t, Options{}, func(c net.Conn, _ string) {
		for range 300 {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-A: a\r\nX-B: b\r\n\r\n"); err != nil {
				return
			}
		}
	})
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		hints := 0
		r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if hints++; hints == 1+i%20 {
				cancel()
			}
			return nil
		}}), "GET", "https://api.test/", nil)
		require.NoError(t, err)
		_, err = cc.RoundTrip(r)
		assert.ErrorIs(t, err, context.Canceled)
		cancel()
	}
}
