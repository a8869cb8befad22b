package proxy

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// keepAlive is a client that GETs 1 KiB again and again over one connection, from
// a server that does nothing else; neither allocates.
func keepAlive(b testing.TB) (exchange func()) {
	answer := append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nContent-Type: application/octet-stream\r\n\r\n"), make([]byte, 1024)...)
	server := rawOrigin(b, func(c *rawClient) {
		for buf := make([]byte, 4096); ; {
			if _, err := c.TCPConn.Read(buf); err != nil {
				return
			}
			c.Write(answer)
		}
	})
	g := start(b, "!*.example.com\n"+allowLoopback, names{"origin.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
	c := g.dial(b)
	req := []byte("GET http://origin.test:" + portOf(server) + "/x HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	buf := make([]byte, 4096)
	return func() {
		if _, err := c.Write(req); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < 1024; {
			n, err := c.TCPConn.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
}

// A request on the beaten path (rules, log and metrics on, both connections kept
// alive) allocates nothing.
func TestForwardAllocatesNothing(t *testing.T) {
	exchange := keepAlive(t)
	for range 100 {
		exchange() // warm up: pools, the first connection
	}
	if n := testing.AllocsPerRun(2000, exchange); n > 0 && !raceEnabled {
		t.Errorf("%v allocations a request", n)
	}
}

// mallocs is the number of allocations in this process, client and server included,
// for each connection over which f exchanges a few bytes and closes.
func mallocs(n int, f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// connectBudget is what a tunnel may allocate from accept to close: nothing, but pools
// lose what is in them when memory is collected. A byte in an open tunnel costs nothing
// either: see TestExchangeAllocatesNothing in proxy/tunnel.
const connectBudget = 0.5

func TestConnectAllocates(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) {
		var buf [64]byte
		for {
			n, err := c.TCPConn.Read(buf[:])
			if err != nil {
				return
			}
			c.TCPConn.Write(buf[:n])
		}
	})
	g := start(t, allowLoopback, nil, nil)
	req := []byte("CONNECT " + echo + " HTTP/1.1\r\n\r\n")
	buf, ping := make([]byte, 256), []byte("ping")
	exchange := func(addr string, req []byte) func() {
		return func() {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer c.Close()
			if req != nil {
				c.Write(req)
				_, err := io.ReadFull(c, buf[:len(established)])
				require.NoError(t, err)
			}
			c.Write(ping)
			_, err = io.ReadFull(c, buf[:len(ping)])
			require.NoError(t, err)
		}
	}
	mallocs(200, exchange(g.Addr, req)) // warm up
	direct := mallocs(2000, exchange(echo, nil))
	through := mallocs(2000, exchange(g.Addr, req))
	t.Logf("%.1f allocations direct, %.1f through a tunnel", direct, through)
	if through-direct > connectBudget && !raceEnabled {
		t.Errorf("a tunnel takes %.1f allocations, more than %.1f", through-direct, connectBudget)
	}
}

// BenchmarkForward is a GET of 1 KiB over kept-alive connections on both sides,
// with rules, log and metrics; the client and the server take their part of it.
func BenchmarkForward(b *testing.B) {
	exchange := keepAlive(b)
	b.ReportAllocs()
	for b.Loop() {
		exchange()
	}
}

// BenchmarkConnect is a tunnel for one exchange: dial, CONNECT, ping, pong, close.
func BenchmarkConnect(b *testing.B) {
	echo := rawOrigin(b, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	g := start(b, allowLoopback, nil, nil)
	req := []byte("CONNECT " + echo + " HTTP/1.1\r\n\r\n")
	buf := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", g.Addr)
		if err != nil {
			b.Fatal(err)
		}
		c.Write(req)
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
		c.Write([]byte("ping"))
		if _, err := io.ReadFull(c, buf[:4]); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
