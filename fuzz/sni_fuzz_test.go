package fuzz

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/tcp"
)

// said is a connection on which the client has said b, and hangs up.
type said struct {
	r *bytes.Reader
}

func (c said) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c said) Write(b []byte) (int, error)      { return len(b), nil }
func (c said) Close() error                     { return nil }
func (c said) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c said) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c said) SetDeadline(time.Time) error      { return nil }
func (c said) SetReadDeadline(time.Time) error  { return nil }
func (c said) SetWriteDeadline(time.Time) error { return nil }

var errSeen = errors.New("seen")

// byTLS is the server name as crypto/tls reads it, if it takes b for a ClientHello.
func byTLS(b []byte) (name string, ok bool) {
	tls.Server(said{bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = h.ServerName, true
			return nil, errSeen
		},
	}).Handshake()
	return name, ok
}

// clientHello is what a client of crypto/tls sends first.
func clientHello(c *tls.Config) []byte {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		tls.Client(near, c).Handshake()
		near.Close()
	}()
	b := make([]byte, 64<<10)
	n, err := far.Read(b)
	if err != nil && err != io.EOF {
		panic(err)
	}
	return b[:n]
}

// resplit puts the handshake of the first record into records of at most n bytes.
func resplit(b []byte, n int) []byte {
	if len(b) < 5 || n < 1 {
		return b
	}
	size := int(b[3])<<8 | int(b[4])
	if size == 0 || len(b) < 5+size {
		return b
	}
	var out []byte
	for body := b[5 : 5+size]; len(body) > 0; {
		k := min(n, len(body))
		out = append(append(out, b[0], b[1], b[2], byte(k>>8), byte(k)), body[:k]...)
		body = body[k:]
	}
	return append(out, b[5+size:]...)
}

// FuzzServerName reads the server name of arbitrary bytes:
//   - two readers of one ClientHello agree: where crypto/tls finds a name (or that
//     there is none), so do we, unless it looked past other records than handshakes;
//   - more bytes never change an answer, fewer give the same or ask for more;
//   - how the message is cut into records makes no difference.
func FuzzServerName(f *testing.F) {
	for _, name := range []string{"", "a", "www.example.com", "xn--bcher-kva.example"} {
		f.Add(clientHello(&tls.Config{ServerName: name, InsecureSkipVerify: true}), uint16(3))
	}
	f.Add(clientHello(&tls.Config{ServerName: "old.example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}), uint16(100))
	f.Add(clientHello(&tls.Config{ServerName: "p.example", NextProtos: []string{"h2", "http/1.1"}}), uint16(1))
	f.Add([]byte("\x16\x03\x01\x00\x04\x01\xff\xff\xff"), uint16(0))
	f.Add([]byte("\x15\x03\x01\x00\x02\x01\x00"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		name, err := tcp.ServerName(b)
		if want, ok := byTLS(b); ok && onlyHandshakes(b) {
			require.NoError(t, err)
			require.Equal(t, want, name)
		}
		if err != nil {
			require.Empty(t, name)
		}
		if !errors.Is(err, tcp.ErrMore) {
			again, errAgain := tcp.ServerName(append(bytes.Clone(b), 22, 3, 1, 0, 1, 1))
			require.Equal(t, err, errAgain)
			require.Equal(t, name, again)
		}
		k := min(int(n), len(b))
		if part, errPart := tcp.ServerName(b[:k]); !errors.Is(errPart, tcp.ErrMore) {
			require.Equal(t, err, errPart)
			require.Equal(t, name, part)
		}
		if err == nil {
			cut, errCut := tcp.ServerName(resplit(b, int(n)))
			require.NoError(t, errCut)
			require.Equal(t, name, cut)
		}
	})
}

// onlyHandshakes reports whether all whole records of b are handshake records of
// an SSL 3 or TLS version: crypto/tls passes over some others.
func onlyHandshakes(b []byte) bool {
	for len(b) >= 5 {
		if b[0] != 22 || b[1] != 3 {
			return false
		}
		b = b[min(len(b), 5+int(b[3])<<8+int(b[4])):]
	}
	return true
}
