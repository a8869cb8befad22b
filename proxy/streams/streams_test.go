package streams

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// What the server does is what the front door gets: the whole, a part that does not look like it, or
// nothing by a clean end, which says that the server has not begun.
func TestAnswers(t *testing.T) {
	const (
		head    = "HTTP/1.1 200 OK\r\n"
		over    = "Connection: close\r\n\r\n"
		chunked = head + "Transfer-Encoding: chunked\r\n" + over
	)
	large := strings.Repeat("x", 20<<10)
	reset := func(code http2.ErrCode) func(*script, uint32) {
		return func(s *script, id uint32) { s.WriteRSTStream(id, code) }
	}
	for name, tt := range map[string]struct {
		want  string
		whole bool
		play  func(s *script, id uint32)
	}{
		"no body": {head + "Content-Length: 0\r\n" + over, true, func(s *script, id uint32) { s.head(id, true, ":status", "200") }},
		"of a length": {head + "Content-Length: 2\r\n" + over + "ok", true, func(s *script, id uint32) {
			s.head(id, false, ":status", "200", "content-length", "2")
			s.WriteData(id, true, []byte("ok"))
		}},
		"of no length": {chunked + "2\r\nok\r\n0\r\n\r\n", true, func(s *script, id uint32) {
			s.head(id, false, ":status", "200")
			s.WriteData(id, true, []byte("ok"))
		}},
		"no body at all": {"HTTP/1.1 204 No Content\r\n" + over, true, func(s *script, id uint32) { s.head(id, true, ":status", "204") }},
		"trailers": {chunked + "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", true, func(s *script, id uint32) {
			s.head(id, false, ":status", "200")
			s.WriteData(id, false, []byte("ok"))
			s.head(id, true, "x-sum", "1")
		}},
		"trailers, announced, and a length": {head + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n" + over + "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", true, func(s *script, id uint32) {
			s.head(id, false, ":status", "200", "content-length", "2", "trailer", "x-sum")
			s.WriteData(id, false, []byte("ok"))
			s.head(id, true, "x-sum", "1")
		}},
		"trailers behind nothing": {head + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n" + over + "0\r\nX-Sum: 1\r\n\r\n", true, func(s *script, id uint32) {
			s.head(id, false, ":status", "200", "content-length", "0")
			s.head(id, true, "x-sum", "1")
		}},
		"a hint": {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head + "Content-Length: 0\r\n" + over, true, func(s *script, id uint32) {
			s.head(id, false, ":status", "103", "link", "</a>")
			s.head(id, true, ":status", "200")
		}},
		"NO_ERROR behind the whole": {head + "Content-Length: 2\r\n" + over + "ok", true, func(s *script, id uint32) {
			s.head(id, false, ":status", "200", "content-length", "2")
			s.WriteData(id, true, []byte("ok"))
			s.WriteRSTStream(id, http2.ErrCodeNo)
		}},
		"GOAWAY that leaves it": {head + "Content-Length: 0\r\n" + over, true, func(s *script, id uint32) {
			s.WriteGoAway(id, http2.ErrCodeNo, nil)
			s.head(id, true, ":status", "200")
		}},
		"GOAWAY, not begun":  {"", true, func(s *script, id uint32) { s.WriteGoAway(0, http2.ErrCodeNo, nil) }},
		"REFUSED_STREAM":     {"", true, reset(http2.ErrCodeRefusedStream)},
		"INTERNAL_ERROR":     {"", false, reset(http2.ErrCodeInternal)},
		"CANCEL":             {"", false, reset(http2.ErrCodeCancel)},
		"NO_ERROR":           {"", false, reset(http2.ErrCodeNo)},
		"HTTP_1_1_REQUIRED":  {"", false, reset(http2.ErrCodeHTTP11Required)},
		"GOAWAY for a fault": {"", false, func(s *script, id uint32) { s.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil) }},
		"closed":             {"", false, func(s *script, id uint32) { s.conn.Close() }},
		"closed in the body": {chunked + "2\r\nok\r\n", false, func(s *script, id uint32) {
			s.head(id, false, ":status", "200")
			s.WriteData(id, false, []byte("ok"))
			s.conn.Close()
		}},
		"REFUSED_STREAM in the body": {chunked + "2\r\nok\r\n", false, func(s *script, id uint32) {
			s.head(id, false, ":status", "200")
			s.WriteData(id, false, []byte("ok"))
			s.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}},
		"a length that is not reached": {head + "Content-Length: 9\r\n" + over + "ok", false, func(s *script, id uint32) {
			s.head(id, false, ":status", "200", "content-length", "9")
			s.WriteData(id, true, []byte("ok"))
		}},
		"a length of an answer without body": {head + "Content-Length: 9\r\n" + over, false, func(s *script, id uint32) { s.head(id, true, ":status", "200", "content-length", "9") }},
		"more than none": {"", false, func(s *script, id uint32) {
			s.head(id, false, ":status", "200", "content-length", "0")
			s.WriteData(id, true, []byte("ok"))
		}},
		// x/net/http2 leaves these out: what frames the answer is the stream.
		"two lengths": {head + "Content-Length: 0\r\n" + over, true, func(s *script, id uint32) {
			s.head(id, true, ":status", "200", "content-length", "1", "content-length", "2")
		}},
		"a field of HTTP/1.1": {head + "Content-Length: 0\r\n" + over, true, func(s *script, id uint32) {
			s.head(id, true, ":status", "200", "transfer-encoding", "chunked")
		}},
		"switching protocols": {"", false, func(s *script, id uint32) { s.head(id, false, ":status", "101") }},
		"a head that is too large": {"", false, func(s *script, id uint32) {
			s.head(id, true, ":status", "200", "a", large, "b", large, "c", large, "d", large)
		}},
		"no status": {"", false, func(s *script, id uint32) { s.head(id, true, "a", "b") }},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := scripted(t, Options{}, nil, tt.play)
			got, err := ask(t, s, get)
			if tt.whole {
				assert.NoError(t, err)
				assert.Equal(t, tt.want, got)
			} else {
				assert.ErrorIs(t, err, syscall.ECONNRESET)
				assert.True(t, strings.HasPrefix(tt.want, got), "%q", got) // a reset may overtake what was sent
			}
			nettest.Eventually(t, "no exchange is under way", s.Idle)
		})
	}
}

// A server that begins interim answers for ever is cut.
func TestInterimFlood(t *testing.T) {
	s, _ := scripted(t, Options{}, nil, func(s *script, id uint32) {
		for s.head(id, false, ":status", "103", "link", strings.Repeat("x", 1000)) == nil {
		}
	})
	c := open(t, s)
	_, err := io.WriteString(c, get)
	require.NoError(t, err)
	nettest.Eventually(t, "the exchange is given up, whose interim answers nobody takes", s.Idle)
}

// What is read of an exchange is one request: what stands behind it goes nowhere.
func TestOneRequest(t *testing.T) {
	asked := make(chan string, 10)
	s := handled(t, func(w http.ResponseWriter, r *http.Request) { asked <- r.RequestURI })
	for _, behind := range []string{"GET /second HTTP/1.1\r\nHost: api.test\r\n\r\n", "stray"} {
		got, err := ask(t, s, get+behind)
		if err == nil { // else the end that had not been read has become a reset
			assert.Contains(t, got, "HTTP/1.1 200 OK\r\n")
		}
		assert.Equal(t, "/a?b", <-asked)
	}
	nettest.Eventually(t, "no exchange is under way", s.Idle)
	assert.Empty(t, asked)
}

// An exchange that broke off, on either side, leaves nothing to the next ones of its session.
func TestSharedIsClean(t *testing.T) {
	s := handled(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, b)
		if r.URL.Path == "/cut" {
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	for i := range 20 {
		_, err := ask(t, s, "GET /cut HTTP/1.1\r\nHost: api.test\r\n\r\n")
		require.Error(t, err)
		given := open(t, s)
		fmt.Fprintf(given, "POST /given HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\nhalf")
		given.ResetOnClose()
		given.Close()
		got, err := ask(t, s, fmt.Sprintf("POST /whole HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\n%02d", i))
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(got, fmt.Sprintf("/whole %02d", i)), got)
	}
	assert.True(t, s.Alive())
	nettest.Eventually(t, "no exchange is under way", s.Idle)
}

// No exchange begins on a session that the server, or its end, forbids.
func TestOver(t *testing.T) {
	for name, end := range map[string]func(*script){
		"GOAWAY": func(s *script) { s.WriteGoAway(1, http2.ErrCodeNo, nil) },
		"closed": func(s *script) { s.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, ended := scripted(t, Options{}, nil, func(s *script, id uint32) {
				s.head(id, true, ":status", "204")
				end(s)
			})
			_, err := ask(t, s, get)
			require.NoError(t, err)
			nettest.Eventually(t, "it is known", func() bool { return !s.Alive() })
			_, ok := s.Open()
			assert.False(t, ok)
			s.Retire()
			<-ended
		})
	}
}

// A retired session carries what is under way to its end, and closes.
func TestRetire(t *testing.T) {
	release := make(chan struct{})
	s := handled(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "whole")
	})
	c := open(t, s)
	_, err := io.WriteString(c, get)
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err)
	s.Retire()
	_, ok := s.Open()
	assert.False(t, ok)
	close(release)
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Contains(t, string(b), "whole")
	nettest.Eventually(t, "it is closed", func() bool { return s.cc.State().Closed })
}

// A server that takes one stream at a time gets one at a time.
func TestMostStreams(t *testing.T) {
	release := make(chan struct{})
	s, _ := scripted(t, Options{}, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(s *script, id uint32) {
		<-release
		s.head(id, true, ":status", "204")
	})
	nettest.Eventually(t, "the limit is known", func() bool { return s.cc.State().MaxConcurrentStreams == 1 })
	for range 3 {
		c := open(t, s)
		_, ok := s.Open()
		assert.False(t, ok, "a second one")
		_, err := io.WriteString(c, get)
		require.NoError(t, err)
		release <- struct{}{}
		_, err = io.ReadAll(c)
		require.NoError(t, err)
		c.Close()
		nettest.Eventually(t, "its place is free", s.Idle)
	}
}

// An exchange that the front door gives up resets its stream, whatever it waits for.
func TestGivenUp(t *testing.T) {
	for name, tt := range map[string]struct {
		says  string
		reset bool // by a reset, or by an end
	}{
		"waits for the answer":        {get, false},
		"waits for the answer, reset": {get, true},
		"in the body":                 {"POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\nhalf", false},
		"in the body, reset":          {"POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\nhalf", true},
		"in a chunk":                  {"POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", false},
		"between chunks":              {"POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan struct{}), make(chan string, 1)
			s, _ := scripted(t, Options{}, nil, func(s *script, id uint32) {
				close(begun)
				for {
					switch f := s.next().(type) {
					case nil:
						ended <- "closed"
						return
					case *http2.RSTStreamFrame:
						ended <- f.ErrCode.String()
						return
					case *http2.DataFrame:
						if f.StreamEnded() {
							ended <- "a body that is whole"
							return
						}
					}
				}
			})
			c := open(t, s)
			_, err := io.WriteString(c, tt.says)
			require.NoError(t, err)
			<-begun
			if tt.reset {
				c.ResetOnClose()
			}
			c.Close()
			assert.Equal(t, "CANCEL", <-ended)
			nettest.Eventually(t, "no exchange is under way", s.Idle)
		})
	}
}

// An answer that comes before the body has ended is whole, and nobody takes the rest.
func TestEarlyAnswer(t *testing.T) {
	s, _ := scripted(t, Options{}, nil, func(s *script, id uint32) {
		s.head(id, false, ":status", "413", "content-length", "3")
		s.WriteData(id, true, []byte("no\n"))
		s.WriteRSTStream(id, http2.ErrCodeNo)
	})
	got, err := ask(t, s, "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000000\r\n\r\nhalf")
	assert.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n", got)
}

// The body waits for the server's 100, and its final answer comes without one.
func TestExpect(t *testing.T) {
	s := handled(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		io.Copy(w, r.Body)
	})
	got, err := ask(t, s, "POST /no HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(got, "HTTP/1.1 417 Expectation Failed\r\n"), got)
	c := open(t, s)
	_, err = io.WriteString(c, "POST /yes HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	b := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 100 Continue\r\n\r\n", string(b))
	_, err = io.WriteString(c, "body")
	require.NoError(t, err)
	b, err = io.ReadAll(c)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(b), "body"), string(b))
}

// What a front door does not take stays at the server, but for the stream's window and what the
// pair holds.
func TestSlowTaker(t *testing.T) {
	sent := make(chan int, 10000)
	s, _ := scripted(t, Options{}, nil, func(s *script, id uint32) {
		s.head(id, false, ":status", "200")
		room, all, block := window, 0, make([]byte, 16<<10)
		for {
			for room > 0 {
				n := min(room, len(block))
				if s.WriteData(id, false, block[:n]) != nil {
					return
				}
				room, all = room-n, all+n
			}
			sent <- all
			switch f := s.next().(type) {
			case nil, *http2.RSTStreamFrame:
				return
			case *http2.WindowUpdateFrame:
				if f.StreamID == id {
					room += int(f.Increment)
				}
			}
		}
	})
	c := open(t, s)
	_, err := io.WriteString(c, get)
	require.NoError(t, err)
	all, last := 0, time.Now()
	nettest.Eventually(t, "the server may send no more", func() bool {
		select {
		case all = <-sent:
			last = time.Now()
		default:
		}
		return all > 0 && time.Since(last) > 300*time.Millisecond
	})
	assert.Less(t, all, 3*window)
	t.Logf("%d KiB of an answer that nobody takes", all>>10)
}

// Close gives up what is under way.
func TestClose(t *testing.T) {
	begun := make(chan struct{})
	s, _ := scripted(t, Options{}, nil, func(*script, uint32) { close(begun) })
	c := open(t, s)
	_, err := io.WriteString(c, get)
	require.NoError(t, err)
	<-begun
	s.t.Close()
	_, err = io.ReadAll(c)
	assert.Error(t, err)
	_, ok := s.Open()
	assert.False(t, ok)
	assert.False(t, errors.Is(err, io.EOF))
}

// A server that takes nothing does not hold up whoever closes a connection to it, which may be a loop.
func TestRetireWaitsForNobody(t *testing.T) {
	authority := nettest.NewCA(t)
	near, far := net.Pipe()
	defer far.Close()
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		c := tls.Server(far, &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{authority.Issue("api.test")}})
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.WriteSettings()
		for {
			fr, err := f.ReadFrame()
			if s, ok := fr.(*http2.SettingsFrame); err != nil || ok && s.IsAck() {
				return
			}
		}
	}()
	secure := tls.Client(near, &tls.Config{ServerName: "api.test", RootCAs: authority.Pool, NextProtos: []string{"h2"}})
	require.NoError(t, secure.Handshake())
	tr := New(Options{MaxHead: 64 << 10})
	defer tr.Close()
	ended := make(chan struct{})
	s, err := tr.Begin(secure, func() { close(ended) })
	require.NoError(t, err)
	<-idle
	begun := time.Now()
	s.Retire()
	<-ended
	assert.Less(t, time.Since(begun), 3*time.Second)
}

// A request that announces trailers and has no body, behind which they could stand, is whole all the same.
func TestTrailersBehindNothing(t *testing.T) {
	s := handled(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	})
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\n\r\n":                                                     "<nil>",
		"POST / HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\nContent-Length: 0\r\n\r\n":                               "<nil>",
		"POST / HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\nContent-Length: 2\r\n\r\nok":                             "ok<nil>",
		"POST / HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":             "<nil>",
		"POST / HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n": "<nil>",
	} {
		got, err := ask(t, s, request)
		require.NoError(t, err)
		assert.True(t, strings.HasSuffix(got, "\r\n\r\n"+want), got)
	}
}
