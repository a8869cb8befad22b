package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkForward is a GET of 1 KiB over kept-alive connections on both sides,
// with rules, log and metrics; the client and the server take their part of it.
func BenchmarkForward(b *testing.B) {
	body := make([]byte, 1024)
	answer := append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nContent-Type: application/octet-stream\r\n\r\n"), body...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					c.Write(answer)
				}
			}()
		}
	}()
	g := start(b, "!*.example.com\n"+allowLoopback, names{"origin.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
	c := g.dial(b)
	req := []byte("GET http://origin.test:" + portOf(l.Addr().String()) + "/x HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(req); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < 1024; {
			n, err := c.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
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
