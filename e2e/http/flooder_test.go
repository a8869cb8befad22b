//go:build linux

package http

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/proxy/ca"
)

// floodEnv has the test's program be a client that floods the gateway there.
// It may be the server of such a client too.
const floodEnv = "SLUICE_TEST_FLOOD"

// floodMain is the test's program as one of both: how is an address, a name, a word, the
// address from which, and in what time one more is begun: 0s for as many as may be.
func floodMain(how []string) {
	if how[2] == "serve" {
		serveFlood(how[0], how[1])
	}
	flood(how[0], how[1], how[2] == "whole", net.ParseIP(how[3]), must(time.ParseDuration(how[4])))
}

// flood makes tunnels to an inspected host; hello is sent in each, and no handshake is ever ended: it costs
// the client nothing, for it is always the same, and the gateway a key exchange and a signature. "": the tunnel
// alone is made. whole: each handshake is ended, which costs the client as much as the gateway.
func flood(addr, name string, whole bool, from net.IP, every time.Duration) {
	var hello []byte
	if name != "" {
		hello = helloOf(name)
	}
	pace := make(<-chan time.Time)
	if every > 0 {
		pace = time.Tick(every)
	}
	begin := func(c net.Conn) { beginHandshake(c, hello) }
	if whole {
		begin = func(c net.Conn) { wholeHandshake(c, name) }
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				if every > 0 {
					<-pace
				}
				if c, err := d.Dial("tcp", addr); err == nil {
					begin(c)
				}
			}
		})
	}
	wg.Wait()
}

// beginHandshake sends the hello in a tunnel, and hangs up at the first bytes of the answer.
func beginHandshake(c net.Conn, hello []byte) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_ = c.(*net.TCPConn).SetLinger(0)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make([]byte, 4096)
	if n, err := c.Read(answer); err != nil || !bytes.Contains(answer[:n], []byte(" 200 ")) || hello == nil {
		return
	}
	_, _ = c.Write(hello)
	_, _ = c.Read(answer)
}

// wholeHandshake does one, and hangs up.
func wholeHandshake(c net.Conn, name string) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_ = c.(*net.TCPConn).SetLinger(0)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make([]byte, 4096)
	if n, err := c.Read(answer); err != nil || !bytes.Contains(answer[:n], []byte(" 200 ")) {
		return
	}
	_ = tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() //nolint:gosec // it asks for nothing
}

// serveFlood is a server that does what a flood of handshakes asks of the gateway, and nothing else.
func serveFlood(addr, name string) {
	cert, key, err := ca.Make("test", nil, nil, time.Now().Add(time.Hour))
	must(0, err)
	authority := must(ca.New(must(tls.X509KeyPair(cert, key))))
	c := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return authority.Certificate(name) }}
	l := must(net.Listen("tcp", addr))
	for {
		client := must(l.Accept())
		go func() {
			defer client.Close()
			b := make([]byte, 4096)
			_, _ = client.Read(b)
			_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
			s := tls.Server(client, c)
			_, _ = s.Read(b)
		}()
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// helloOf is what crypto/tls begins with.
func helloOf(name string) []byte {
	near, far := net.Pipe()
	go func() { _ = tls.Client(near, &tls.Config{ServerName: name}).Handshake(); _ = near.Close() }() //nolint:gosec // nobody answers
	b := make([]byte, 4096)
	n, _ := far.Read(b)
	_ = far.Close()
	return b[:n]
}
