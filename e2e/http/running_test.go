//go:build linux

package http

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The tests from here on need no network but loopback, which a rule must unlock.
const loopback = "127.0.0.0/8\n"

// origin is a web server here; its address is ADDR:PORT.
func origin(t testing.TB, h http.Handler) string {
	t.Helper()
	return serve(t, listen(t), nil, h).Listener.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// echo serves connections that get back what they send.
func echo(t testing.TB) (addr string) {
	addr, _ = program.EchoServer(t, "127.0.0.1:0", "")
	return addr
}

func get(t testing.TB, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// tunnel opens a tunnel to addr.
func (g *gateway) tunnel(addr string) net.Conn {
	g.t.Helper()
	c := g.Connect()
	_, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr)
	require.NoError(g.t, err)
	require.Regexp(g.t, "^HTTP/1.1 200 ", readHead(g.t, c))
	return c
}

// With 256 descriptors it stays up under a flood of tunnels, and of connections
// that say nothing, tells those it refuses, keeps the admin port alive, and is as
// new when the flood is over.
func TestOutOfDescriptors(t *testing.T) {
	g := start(t, program.Setup{Rules: loopback, Files: 256})
	far, page := echo(t), origin(t, witness("server"))
	for _, c := range []struct{ name, head string }{
		{"tunnels", "CONNECT " + far + " HTTP/1.1\r\nHost: " + far + "\r\n\r\n"},
		{"silence", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			const refused = `sluice_refused_connections_total{limit="connections"}`
			before := g.Metric(refused)
			flood := make([]net.Conn, 400)
			for i := range flood {
				flood[i] = g.Connect()
				_, _ = io.WriteString(flood[i], c.head) // it may be refused already
			}
			nettest.Eventually(t, "connections are refused", func() bool {
				return g.Metric(refused) != before
			})
			if c.head != "" {
				answers := firstLines(flood)
				assert.NotZero(t, answers["HTTP/1.1 200"], answers)
				assert.NotZero(t, answers["HTTP/1.1 503"], answers)
				assert.Equal(t, len(flood), answers["HTTP/1.1 200"]+answers["HTTP/1.1 503"]+answers[""],
					"in the rush some are not told, but none is told anything else: %v", answers)
			}
			for _, path := range []string{"/healthz", "/readyz", "/metrics", "/"} {
				status, _ := g.Ask(path)
				assert.Equal(t, 200, status, path)
			}
			for _, f := range flood {
				_ = f.Close()
			}
			nettest.Eventually(t, "clients are served again", func() bool {
				resp, err := g.Client().Get("http://" + page + "/")
				if err != nil {
					return false
				}
				_ = resp.Body.Close()
				return resp.StatusCode == 200
			})
			nettest.Eventually(t, "all connections are given up", func() bool {
				return g.Metric("sluice_tunnels") == "0"
			})
		})
	}
	require.False(t, g.Ended())
}

// firstLines counts how the answers begin; "" stands for no answer.
func firstLines(conns []net.Conn) map[string]int {
	counts := map[string]int{}
	for _, c := range conns {
		b := make([]byte, len("HTTP/1.1 200"))
		n, _ := io.ReadFull(c, b) // how far it came is what counts
		counts[string(b[:n])]++
	}
	return counts
}

func TestUnfinishedHeadsSlowNobody(t *testing.T) {
	g := start(t, program.Setup{Rules: loopback})
	url := "http://" + origin(t, witness("server")) + "/"
	for range 200 {
		_, err := io.WriteString(g.Connect(), "GET "+url+" HTTP/1.1\r\nHost: ")
		require.NoError(t, err)
	}
	c := g.Client()
	c.Transport.(*http.Transport).DisableKeepAlives = true
	begun := time.Now()
	for range 50 {
		status, _ := get(t, c, url)
		require.Equal(t, 200, status)
	}
	took := time.Since(begun)
	open, err := strconv.Atoi(g.Metric("sluice_client_connections"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, open, 200, "they were still open")
	assert.Less(t, took, 15*time.Second) // one that waits for their time limit takes 30 s
}
