package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// A panic ends the connection in whose service it comes about, wherever that is, and no
// other: tunnels and clients that were there go on, new ones are served, and nothing that was
// booked for the connection is lost.
func TestPanicEndsOneConnection(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	web := origin(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "ok")
	}).Listener.Addr().String()
	boom := func(name string) {
		if name == "boom.test" {
			panic("a fault that a client has found")
		}
	}
	known := names{"boom.test": {loopback}}
	for _, where := range []string{"known", "lookup", "log line"} {
		t.Run(where, func(t *testing.T) {
			said, lines := new(logBuffer), new(logBuffer)
			g := start(t, allowLoopback+"*.test", known, func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(said, nil))
				switch where {
				case "known":
					o.Gate.Known = func(name string) ([]netip.Addr, bool, error) {
						boom(name)
						return nil, false, nil
					}
				case "lookup":
					o.Gate = outbound.NewGate(func(_ context.Context, name string) ([]netip.Addr, error) {
						boom(name)
						return nil, context.DeadlineExceeded
					}, dial.TCP, o.Gate.Pool)
				default:
					log := linelog.New(lines, linelog.Options{})
					t.Cleanup(func() { log.Close(time.Minute) })
					o.Access = accesslog.New(log, func(b []byte, r *accesslog.Request) []byte {
						name, _, _ := strings.Cut(strings.TrimPrefix(string(r.Target()), "http://"), ":")
						boom(name)
						return append(b, "a line\n"...)
					})
				}
			})
			other, tunnel := g.dial(t), g.dial(t)
			tunnel.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
			require.Contains(t, tunnel.head(t), " 200 ")
			ask := func(c *rawClient) {
				t.Helper()
				c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", web)
				_, body := c.response(t, "GET")
				assert.Equal(t, "ok", body)
			}
			ask(other)
			requests := []string{"GET http://boom.test:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT boom.test:%s HTTP/1.1\r\n\r\n",
				"POST http://boom.test:%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"}
			for i, request := range requests {
				c := g.dial(t)
				if i == 2 && where == "lookup" {
					request += "x" // so that a goroutine has it
				} else if i == 2 {
					request += "xxxxx"
				}
				c.send(t, request, portOf(web))
				if where == "log line" && i == 1 {
					c.CloseWrite() // a tunnel is logged at its end
				}
				b, err := io.ReadAll(c.r)
				if where != "log line" {
					assert.Empty(t, string(b))
					assert.ErrorIs(t, err, syscall.ECONNRESET, request)
				}
				nettest.Eventually(t, "the panic is counted", func() bool { return testutil.ToFloat64(g.Metrics.Panics) >= float64(i+1) })
			}
			assert.Contains(t, said.String(), "a fault that a client has found")
			assert.Contains(t, said.String(), "abandon_test.go", "the stack")
			ask(other)
			ask(g.dial(t))
			tunnel.send(t, "still there")
			b := make([]byte, 11)
			_, err := io.ReadFull(tunnel.r, b)
			require.NoError(t, err)
			assert.Equal(t, "still there", string(b))
			nettest.Eventually(t, "other, the new one and the tunnel are left", func() bool { return testutil.ToFloat64(g.Metrics.Clients) == 3 })
			assert.Equal(t, 1000-3*2-int64(g.Gate.Pool.Len()), g.Budget.Left(), fmt.Sprint("pooled: ", g.Gate.Pool.Len()))
		})
	}
}

// A connection on the loop ends whole, also when the runtime knows its descriptor by then: a
// deadline that was set for its goroutine may come late.
func TestEndOfASharedConnection(t *testing.T) {
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n")
	c.response(t, "GET")
	nettest.Eventually(t, "it waits on the loop", func() (waits bool) {
		g.door.Each(func(m door.Member) {
			own := m.(*conn)
			own.mu.Lock()
			defer own.mu.Unlock()
			if waits = own.onLoop && own.x == nil && own.served == 1; waits {
				own.tcp.SetReadDeadline(time.Now().Add(time.Hour))
			}
		})
		return waits
	})
	c.Close()
	nettest.Eventually(t, "nothing is open", func() bool { return g.door.Len() == 0 })
}
