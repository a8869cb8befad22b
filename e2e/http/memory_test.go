//go:build linux

package http

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// memory is what the process holds now, and held at most, in MiB.
func (g *gateway) memory() (now, peak int) {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID()))
	require.NoError(g.t, err)
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &now) // other lines don't match
		_, _ = fmt.Sscanf(line, "VmHWM: %d", &peak)
	}
	require.NotZero(g.t, peak)
	return now >> 10, peak >> 10
}

const mib = 1 << 20

// Bounds, in MiB: what a test may add, and what the process may ever hold. At
// rest it holds about 15.
const growth, most = 30, 64

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
	g := start(t, program.Setup{Rules: loopback, Plain: true})
	var sent atomic.Int64
	addr := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		zeros(w, size, &sent)
	}))
	for name, open := range map[string]func() net.Conn{
		"forwarded, length": func() net.Conn { return ask(t, g.Connect(), "http://"+addr+"/length", addr) },
		"forwarded, chunks": func() net.Conn { return ask(t, g.Connect(), "http://"+addr+"/chunks", addr) },
		"tunnelled":         func() net.Conn { return ask(t, g.tunnel(addr), "/length", addr) },
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := g.memory()
			sent.Store(0)
			conns := make([]net.Conn, clients)
			for i := range conns {
				conns[i] = open()
				defer conns[i].Close()
			}
			last, since := int64(0), time.Now() // of what moved
			nettest.Eventually(t, "the program and the server can send no more", func() bool {
				if now := sent.Load(); now != last {
					last, since = now, time.Now()
				}
				return time.Since(since) > 200*time.Millisecond && backedUp(t, g.Addr) == clients && backedUp(t, addr) == clients
			})
			assert.Less(t, sent.Load(), int64(clients*size))
			now, _ := g.memory()
			assert.Less(t, now-before, growth, "MiB more than before")
			_, body, err := readAnswer(conns[0])
			require.NoError(t, err)
			assert.EqualValues(t, size, body)
			for _, c := range conns {
				_ = c.Close()
			}
			nettest.Eventually(t, "all are gone", func() bool {
				return backedUp(t, g.Addr) == 0 && backedUp(t, addr) == 0
			})
		})
	}
}

// backedUp counts the connections of whoever listens at addr in which bytes wait that
// the other end has not taken (proc(5), tx_queue).
func backedUp(t testing.TB, addr string) (n int) {
	t.Helper()
	// Of this thread: the main one may be in a namespace that another test has made.
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	require.NoError(t, err)
	a := netip.MustParseAddrPort(addr)
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(a.Addr().AsSlice()), a.Port())
	for line := range strings.Lines(string(table)) {
		// sl local_address rem_address st tx_queue:rx_queue ...
		if f := strings.Fields(line); f[1] == local && f[3] == "01" && !strings.HasPrefix(f[4], "00000000:") {
			n++
		}
	}
	return n
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
	g := start(t, program.Setup{Rules: loopback, Plain: true})
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
	for name, open := range map[string]func() net.Conn{
		"down, length":    func() net.Conn { return ask(t, g.Connect(), "http://"+addr+"/length", addr) },
		"down, chunks":    func() net.Conn { return ask(t, g.Connect(), "http://"+addr+"/chunks", addr) },
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
			resp, err := g.Client().Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("%d <nil>", size), string(b))
		})
	}
	_, peak := g.memory()
	assert.Less(t, peak, most, "MiB at the worst time")
}
