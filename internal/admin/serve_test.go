package admin

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func serve(t *testing.T, h *Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, done := h.Serve(l, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		s.Close()
		assert.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

// ask sends a request on c and returns the answer's status.
func ask(t *testing.T, c net.Conn, path string) int {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, errDeadline)
}

var errDeadline = func() error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	a.SetDeadline(time.Unix(1, 0))
	_, err := a.Read(make([]byte, 1))
	return err
}()

// The longest silent connection gives way, be it new, in the midst of a head or between
// two requests; one that waits for its answer does not.
func TestSilentConnectionsGiveWay(t *testing.T) {
	busy, free := make(chan struct{}), make(chan struct{})
	h := New(prometheus.NewRegistry(), func() Status { close(busy); <-free; return Status{} }, false)
	addr := serve(t, h)
	working := dial(t, addr)
	fmt.Fprint(working, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-busy
	var silent []net.Conn
	for i := range MaxConns - 1 {
		c := dial(t, addr)
		switch {
		case i%2 == 1:
			fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHo")
		case i > 10: // the server sees a little later that it is silent again, behind who has come by then
			require.Equal(t, 200, ask(t, c, "/healthz"))
		}
		silent = append(silent, c)
	}
	for range 3 {
		require.Equal(t, 200, ask(t, silent[len(silent)-3], "/healthz"), "it is silent since now")
	}
	for i := range 10 {
		c := dial(t, addr)
		require.Equal(t, 200, ask(t, c, "/healthz"))
		closed(t, silent[i])
	}
	require.Equal(t, 200, ask(t, silent[len(silent)-3], "/healthz"))
	close(free)
	resp, err := http.ReadResponse(bufio.NewReader(working), nil)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
}

// When all have a request under way, that may be since they hold the port up: the one that
// takes longest gives way.
func TestNoneIsSilent(t *testing.T) {
	busy, free := make(chan struct{}, MaxConns), make(chan struct{})
	addr := serve(t, New(prometheus.NewRegistry(), func() Status { busy <- struct{}{}; <-free; return Status{} }, false))
	var all []net.Conn
	for range MaxConns {
		all = append(all, dial(t, addr))
		fmt.Fprint(all[len(all)-1], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-busy
	}
	require.Equal(t, 200, ask(t, dial(t, addr), "/healthz"))
	closed(t, all[0])
	close(free)
}

// Bodies that do not come, and answers that nobody reads, hold nobody up.
func TestUnreadAndUnsentGiveWay(t *testing.T) {
	addr := serve(t, New(prometheus.NewRegistry(), func() Status { return Status{} }, false))
	for range MaxConns {
		fmt.Fprint(dial(t, addr), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
	}
	for range 10 {
		require.Equal(t, 200, ask(t, dial(t, addr), "/healthz"))
	}
}

// Names by which a page in a browser may have found the port are none of its names.
func TestHost(t *testing.T) {
	h := New(prometheus.NewRegistry(), func() Status { return Status{} }, false, "sluice-admin.egress.svc")
	for host, want := range map[string]int{
		"127.0.0.1": 200, "10.1.2.3:9090": 200, "[2001:db8::1]:9090": 200, "localhost": 200, "LOCALHOST.:9090": 200,
		"": 200, "sluice-admin.egress.svc": 200, "Sluice-Admin.Egress.svc.:9090": 200,
		"rebound.example.com": 421, "rebound.example.com:9090": 421, "localhost.example.com": 421,
		"127.0.0.1.example.com": 421, "0x7f.1": 421, "a b": 421, "svc": 421,
	} {
		for _, path := range []string{"/", "/healthz", "/metrics"} {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			assert.Equal(t, want, w.Code, "%q", host)
			if want != 200 {
				assert.Equal(t, fmt.Sprintf("this port is not known as %q: ask it by its address, or name it with --admin-host\n", host), w.Body.String())
			}
		}
	}
}

// A body that is announced and does not come ends the connection, in time.
func TestBodyThatDoesNotCome(t *testing.T) {
	addr := serve(t, New(prometheus.NewRegistry(), func() Status { return Status{} }, false))
	c := dial(t, addr)
	fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
	assert.True(t, resp.Close)
	_, err = io.Copy(io.Discard, c)
	require.NotErrorIs(t, err, errDeadline)
}
