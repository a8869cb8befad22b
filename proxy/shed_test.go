package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// dialFrom is a client with that address.
func (g *gateway) dialFrom(t testing.TB, addr string) *rawClient {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp", g.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return &rawClient{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
}

// shedCounter is how many of the kind have given way.
func shedCounter(t testing.TB, g *gateway, state string) float64 {
	t.Helper()
	all, err := g.reg.Gather()
	require.NoError(t, err)
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == "sluice_shed_connections_total" && m.GetLabel()[0].GetValue() == state {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// Whoever opens all places and sends nothing, half a head, or one request long ago, gives
// way to others; who waits for an answer and who has a tunnel does not.
func TestWhoGivesWay(t *testing.T) {
	web := origin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	hold := make(chan struct{})
	slow := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		<-hold
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
	})
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	ask := func(t *testing.T, c *rawClient) {
		t.Helper()
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", web.Listener.Addr())
		res, body := c.response(t, "GET")
		assert.Equal(t, "200 ok", fmt.Sprint(res.StatusCode, " ", body))
	}
	const places = 20
	for limit, change := range map[string]func(*Options){
		"places":      func(o *Options) { o.MaxConns = places },
		"descriptors": func(o *Options) { o.Budget = fdbudget.New(2 * places) },
	} {
		for _, does := range []string{"nothing", "half a head", "one request"} {
			t.Run(limit+", "+does, func(t *testing.T) {
				g := start(t, allowLoopback, nil, change)
				waits, tunnel := g.dialFrom(t, "127.0.0.2"), g.dialFrom(t, "127.0.0.2")
				waits.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", slow)
				tunnel.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
				require.Contains(t, tunnel.head(t), " 200 ")
				for range places - 2 {
					c := g.dialFrom(t, "127.0.0.3")
					switch does {
					case "half a head":
						c.send(t, "GET http://%s/ HT", slow)
					case "one request":
						ask(t, c)
					}
				}
				nettest.Eventually(t, "the others would give way", func() bool {
					return g.wouldGiveWay("127.0.0.3") == places-2
				})
				for range 5 {
					ask(t, g.dialFrom(t, "127.0.0.4"))
				}
				waits.SetDeadline(time.Now().Add(20 * time.Second))
				tunnel.send(t, "still")
				_, err := io.ReadFull(tunnel.r, make([]byte, 5))
				assert.NoError(t, err)
				select {
				case hold <- struct{}{}:
				case <-time.After(20 * time.Second):
					t.Fatal("the one who waits was not served")
				}
				_, body := waits.response(t, "GET")
				assert.Equal(t, "yes", body)
				shed := (shedCounter(t, g, map[bool]string{true: "idle", false: "headless"}[does == "one request"]))
				assert.GreaterOrEqual(t, shed, 5.0)
				assert.Less(t, g.wouldGiveWay("127.0.0.3"), places-2-4, "all were theirs")
			})
		}
	}
}

// Heads that do not end cost no more than headBytesMost, whoever sends them; others are
// served meanwhile.
func TestHeadsAreBounded(t *testing.T) {
	web := origin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	g := start(t, allowLoopback, nil, func(o *Options) { o.Budget, o.HeadTimeout = fdbudget.New(10_000), time.Minute })
	head := "GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 60<<10)
	var most int64
	for i := range 700 {
		c := g.dialFrom(t, "127.0.0.3")
		c.Write([]byte(head)) // it may be cut meanwhile
		most = max(most, g.headBytes.Load())
		if i%100 == 0 {
			honest := g.dialFrom(t, "127.0.0.4")
			honest.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", web.Listener.Addr())
			_, body := honest.response(t, "GET")
			assert.Equal(t, "ok", body)
		}
	}
	assert.Less(t, most, int64(headBytesMost+4<<20))
	assert.NotZero(t, (shedCounter(t, g, "headless")))
}

// wouldGiveWay is how many connections of a client would.
func (g *gateway) wouldGiveWay(client string) (n int) {
	g.door.Each(func(m door.Member) {
		var o door.Open
		if room, _ := m.Room(); room != door.InUse && m.Describe(&o) && o.Client.Addr() == netip.MustParseAddr(client) {
			n++
		}
	})
	return n
}
