//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	t.Helper()
	l := listen(t)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return l.Addr().String()
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
	c := g.connect()
	_, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr)
	require.NoError(g.t, err)
	require.Regexp(g.t, "^HTTP/1.1 200 ", readHead(g.t, c))
	return c
}

// echoes wants a word back from the other end of the tunnel.
func echoes(t testing.TB, c net.Conn, word string) {
	t.Helper()
	_, err := io.WriteString(c, word)
	require.NoError(t, err)
	got := make([]byte, len(word))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, word, string(got))
}

// With 256 descriptors it stays up under a flood of tunnels, and of connections
// that say nothing, tells those it refuses, keeps the admin port alive, and is as
// new when the flood is over.
func TestOutOfDescriptors(t *testing.T) {
	g := start(t, setup{rules: loopback, files: 256})
	far, page := echo(t), origin(t, witness("server"))
	for _, c := range []struct{ name, head string }{
		{"tunnels", "CONNECT " + far + " HTTP/1.1\r\nHost: " + far + "\r\n\r\n"},
		{"silence", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			const refused = `sluice_refused_connections_total{limit="connections"}`
			before := g.metric(refused)
			flood := make([]net.Conn, 400)
			for i := range flood {
				flood[i] = g.connect()
				_, _ = io.WriteString(flood[i], c.head) // it may be refused already
			}
			eventually(t, "connections are refused", func() bool {
				return g.metric(refused) != before
			})
			if c.head != "" {
				answers := firstLines(flood)
				assert.NotZero(t, answers["HTTP/1.1 200"], answers)
				assert.NotZero(t, answers["HTTP/1.1 503"], answers)
				assert.Equal(t, len(flood), answers["HTTP/1.1 200"]+answers["HTTP/1.1 503"]+answers[""],
					"in the rush some are not told, but none is told anything else: %v", answers)
			}
			for _, path := range []string{"/healthz", "/readyz", "/metrics", "/"} {
				status, _ := g.admin(path)
				assert.Equal(t, 200, status, path)
			}
			for _, f := range flood {
				_ = f.Close()
			}
			eventually(t, "clients are served again", func() bool {
				resp, err := g.client().Get("http://" + page + "/")
				if err != nil {
					return false
				}
				_ = resp.Body.Close()
				return resp.StatusCode == 200
			})
			eventually(t, "all connections are given up", func() bool {
				return g.metric("sluice_tunnels") == "0"
			})
		})
	}
	require.False(t, g.ended())
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
	g := start(t, setup{rules: loopback})
	url := "http://" + origin(t, witness("server")) + "/"
	for range 200 {
		_, err := io.WriteString(g.connect(), "GET "+url+" HTTP/1.1\r\nHost: ")
		require.NoError(t, err)
	}
	c := g.client()
	c.Transport.(*http.Transport).DisableKeepAlives = true
	begun := time.Now()
	for range 50 {
		status, _ := get(t, c, url)
		require.Equal(t, 200, status)
	}
	took := time.Since(begun)
	open, err := strconv.Atoi(g.metric("sluice_client_connections"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, open, 200, "they were still open")
	assert.Less(t, took, 15*time.Second) // one that waits for their time limit takes 30 s
}

// memory is what the process holds now, and held at most, in MiB.
func (g *gateway) memory() (now, peak int) {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	require.NoError(g.t, err)
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &now) // other lines don't match
		_, _ = fmt.Sscanf(line, "VmHWM: %d", &peak)
	}
	require.NotZero(g.t, peak)
	return now >> 10, peak >> 10
}

const mib = 1 << 20

// zeros sends n bytes and counts them.
func zeros(w io.Writer, n int64, sent *atomic.Int64) {
	block := make([]byte, 256<<10)
	for n > 0 {
		m, err := w.Write(block[:min(n, int64(len(block)))])
		sent.Add(int64(m))
		if n -= int64(m); err != nil {
			return
		}
	}
}

// Eight clients that do not read their 100 MB cost next to nothing: what they do
// not take stays at the server.
func TestSlowReadersCostNoMemory(t *testing.T) {
	const size, clients = 100 * mib, 8
	g := start(t, setup{rules: loopback, plain: true})
	var sent atomic.Int64
	addr := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		zeros(w, size, &sent)
	}))
	warmUp(t, g, addr)
	for name, open := range map[string]func() net.Conn{
		"forwarded, length": func() net.Conn { return ask(t, g.connect(), "http://"+addr+"/length", addr) },
		"forwarded, chunks": func() net.Conn { return ask(t, g.connect(), "http://"+addr+"/chunks", addr) },
		"tunnelled":         func() net.Conn { return ask(t, g.tunnel(addr), "/length", addr) },
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := g.memory()
			sent.Store(0)
			conns := make([]net.Conn, clients)
			for i := range conns {
				conns[i] = open()
			}
			last := int64(-1)
			eventually(t, "the server can send no more", func() bool {
				time.Sleep(200 * time.Millisecond)
				now := sent.Load()
				stuck := now == last && now > 0
				last = now
				return stuck
			})
			assert.Less(t, last, int64(clients*size))
			now, _ := g.memory()
			assert.Less(t, now-before, 30, "MiB more than before")
			_, body, err := readAnswer(conns[0])
			require.NoError(t, err)
			assert.EqualValues(t, size, body)
			for _, c := range conns {
				_ = c.Close()
			}
		})
	}
}

// warmUp lets the heap find its size.
func warmUp(t testing.TB, g *gateway, addr string) {
	t.Helper()
	for range 3 {
		_, _, err := readAnswer(ask(t, g.connect(), "http://"+addr+"/chunks", addr))
		require.NoError(t, err)
	}
}

// ask sends a GET on c.
func ask(t testing.TB, c net.Conn, target, host string) net.Conn {
	t.Helper()
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host)
	require.NoError(t, err)
	return c
}

func readAnswer(c net.Conn) (status int, body int64, err error) {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	body, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, body, err
}

// bodySize is that of the great bodies: 1 GiB, or SLUICE_E2E_BODY_MIB.
func bodySize(t testing.TB) int64 {
	t.Helper()
	text := os.Getenv("SLUICE_E2E_BODY_MIB")
	if text == "" {
		return 1 << 30
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n * mib
}

func TestGreatBodies(t *testing.T) {
	size := bodySize(t)
	g := start(t, setup{rules: loopback, plain: true})
	var sent atomic.Int64
	addr := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %v", n, err)
			return
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
		zeros(w, size, &sent)
	}))
	warmUp(t, g, addr)
	before, _ := g.memory()
	for name, open := range map[string]func() net.Conn{
		"down, length":    func() net.Conn { return ask(t, g.connect(), "http://"+addr+"/length", addr) },
		"down, chunks":    func() net.Conn { return ask(t, g.connect(), "http://"+addr+"/chunks", addr) },
		"down, tunnelled": func() net.Conn { return ask(t, g.tunnel(addr), "/length", addr) },
	} {
		t.Run(name, func(t *testing.T) {
			status, body, err := readAnswer(open())
			require.NoError(t, err)
			assert.Equal(t, 200, status)
			assert.Equal(t, size, body)
		})
	}
	for name, length := range map[string]int64{"up, length": size, "up, chunks": -1} {
		t.Run(name, func(t *testing.T) {
			r, w := io.Pipe()
			go func() {
				zeros(w, size, &sent)
				_ = w.Close()
			}()
			req, err := http.NewRequest(http.MethodPut, "http://"+addr+"/", r)
			require.NoError(t, err)
			req.ContentLength = length
			resp, err := g.client().Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("%d <nil>", size), string(b))
		})
	}
	_, peak := g.memory()
	assert.Less(t, peak-before, 30, "MiB more than before, at the worst time")
}
