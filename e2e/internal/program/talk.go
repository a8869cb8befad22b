//go:build linux

package program

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// EchoServer listens at addr and sends back what comes, with a word first. It ends with
// the test, or its listener with stop.
func EchoServer(t testing.TB, addr, word string) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				_, _ = io.WriteString(c, word)
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	stop = func() { _ = l.Close() }
	t.Cleanup(func() { stop(); open.Wait() })
	return l.Addr().String(), stop
}

// Hears wants a word from the other end.
func Hears(t testing.TB, c net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, word, string(got))
}

// Echoes wants a word back from the other end.
func Echoes(t testing.TB, c net.Conn, word string) {
	t.Helper()
	_, err := io.WriteString(c, word)
	require.NoError(t, err)
	Hears(t, c, word)
}

// PortOf is the port of ADDR:PORT.
func PortOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}

// FreePort is a port that is free on all of 127.0.0.0/8, as far as can be known.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	require.NoError(t, err)
	defer l.Close()
	return PortOf(t, l.Addr().String())
}
