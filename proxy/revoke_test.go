package proxy

import (
	"context"
	"io"
	"net/netip"
	"runtime"
	"strings"
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

func echoServer(t *testing.T) string {
	return rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
}

// What is put in force while a request waits for the resolver holds for it.
func TestRulesChangeDuringALookup(t *testing.T) {
	at := netip.MustParseAddrPort(echoServer(t))
	for name, request := range map[string]string{
		"CONNECT":        "CONNECT slow.test:%d HTTP/1.1\r\n\r\n",
		"GET":            "GET http://slow.test:%d/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"absolute https": "GET https://slow.test:%d/ HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			asked, release := make(chan struct{}), make(chan struct{})
			g := start(t, allowLoopback+"slow.test", nil, func(o *Options) {
				o.Gate = outbound.NewGate(func(context.Context, string) ([]netip.Addr, error) {
					close(asked)
					<-release
					return []netip.Addr{at.Addr()}, nil
				}, dial.TCP, outbound.NewPool(o.Budget, time.Minute))
				o.Gate.Begin = dial.Begin
			})
			c := g.dial(t)
			c.send(t, request, at.Port())
			soon(t, asked)
			g.rules(t, "")
			assert.Zero(t, g.Revoke(), "it has no server yet")
			close(release)
			if name == "absolute https" { // the server speaks no TLS, and no connection is told to stand
				assert.NotContains(t, c.head(t), " 200 ")
				return
			}
			res, _ := c.response(t, "GET")
			assert.Equal(t, "403 Egress denied: no rule allows it", res.Status)
		})
	}
}

// And so it does for one whose server is being connected to, on both paths.
func TestRulesChangeDuringAHandshake(t *testing.T) {
	for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
		t.Run(path, func(t *testing.T) {
			at, accept := nettest.FullQueue(t)
			g := start(t, "!denied.test\n"+allowLoopback, nil, nil)
			c := g.dial(t)
			c.send(t, "%sCONNECT %s HTTP/1.1\r\n\r\n", ahead, at)
			if ahead != "" {
				c.response(t, "GET")
			}
			nettest.Eventually(t, "it is listed with its target", func() bool {
				open := g.Open()
				return len(open) == 1 && open[0].State == door.Request && open[0].Target.Port == at.Port()
			})
			g.rules(t, "")
			assert.Zero(t, g.Revoke(), "it has no server yet")
			accept()
			res, _ := c.response(t, "GET")
			assert.Equal(t, 403, res.StatusCode)
		})
	}
}

// A round also goes to what becomes a tunnel meanwhile, and what is counted has ended.
func TestCutWhileTunnelsAreMade(t *testing.T) {
	echo := echoServer(t)
	g := start(t, "!denied.test\n"+allowLoopback, nil, nil)
	g.dial(t)
	nettest.Eventually(t, "the first is there", func() bool { return len(g.Open()) == 1 })
	b := g.dial(t)
	nettest.Eventually(t, "the second, too", func() bool { return len(g.Open()) == 2 })
	first := true
	g.Cut(func(*door.Open) bool {
		if first {
			first = false
			b.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
			b.head(t)
			nettest.Eventually(t, "it is a tunnel", func() bool { return testutil.ToFloat64(g.Metrics.Tunnels) == 1 })
		}
		return true
	})
	nettest.Eventually(t, "all were cut", func() bool { return len(g.Open()) == 0 })

	for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
		t.Run(path, func(t *testing.T) {
			for range 300 {
				c := g.dial(t)
				me := netip.MustParseAddrPort(c.LocalAddr().String())
				c.send(t, "%sCONNECT %s HTTP/1.1\r\n\r\n", ahead, echo)
				for g.Cut(func(o *door.Open) bool { return o.Client == me && o.Addr.IsValid() }) == 0 {
					runtime.Gosched()
				}
				io.Copy(io.Discard, c.r) // or it would wait for 20 s, and fail
				c.Close()
			}
			nettest.Eventually(t, "nothing is open", func() bool { return g.door.Len() == 0 })
		})
	}
}

// A client that is refused after it had waited for a place has none to leave, also when that
// panics.
func TestPanicInARefusal(t *testing.T) {
	echo := echoServer(t)
	lines := linelog.New(io.Discard, linelog.Options{})
	defer lines.Close(time.Minute)
	g := start(t, allowLoopback, nil, func(o *Options) {
		o.MaxConns = 1
		o.Access = accesslog.New(lines, func(b []byte, r *accesslog.Request) []byte {
			if r.Status == 503 {
				panic("in the log")
			}
			return b
		})
	})
	left := g.Budget.Left()
	a := g.dialFrom(t, "127.0.0.2")
	a.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
	require.Contains(t, a.head(t), " 200 ")
	io.ReadAll(g.dialFrom(t, "127.0.0.3").r)
	assert.Len(t, g.Open(), 1, "the tunnel is still listed")
	assert.EqualValues(t, left-2, g.Budget.Left())
	a.send(t, "still")
	_, err := io.ReadFull(a.r, make([]byte, 5))
	assert.NoError(t, err)
}

// Who pipelines requests and does not read the refusals gives way, or is cut for its pace.
func TestRefusalsThatNobodyReads(t *testing.T) {
	g := start(t, "!denied.test\n"+allowLoopback, nil, func(o *Options) {
		o.MinRate, o.MinRateOver, o.IdleTimeout = 1000, time.Second, time.Hour
		o.HeadTimeout = 400 * time.Millisecond // which has the door look often
	})
	c := g.dial(t)
	require.NoError(t, c.SetReadBuffer(4096))
	request := "GET http://denied.test/" + strings.Repeat("a", 3500) + " HTTP/1.1\r\nHost: x\r\n\r\n" // which is in its answer
	go func() {
		for {
			if _, err := io.WriteString(c, request+request); err != nil {
				return
			}
		}
	}()
	nettest.Eventually(t, "it is served", func() bool { return g.door.Len() == 1 })
	nettest.Eventually(t, "it is cut", func() bool { return g.door.Len() == 0 })
}
