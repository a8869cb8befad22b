package fuzz

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/tlshello"
)

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

// said is all that a hello says.
type said struct {
	name      string
	protocols []string
	ech       bool
	err       error
}

func parseHello(b []byte) said {
	h, err := tlshello.Parse(b)
	return said{h.ServerName, h.Protocols(), h.ECH, err}
}

// FuzzClientHello reads arbitrary bytes as a ClientHello:
//   - two readers of one ClientHello agree: what crypto/tls takes for one, we do, with
//     the same name and protocols, unless it looked past other records than handshakes;
//   - what crypto/tls sees no extension of is not encrypted;
//   - more bytes never change an answer, fewer give the same or ask for more;
//   - how the message is cut into records makes no difference.
func FuzzClientHello(f *testing.F) {
	for _, name := range []string{"", "a", "www.example.com", "xn--bcher-kva.example"} {
		f.Add(nettest.ClientHello(f, &tls.Config{ServerName: name, InsecureSkipVerify: true}), uint16(3))
	}
	f.Add(nettest.ClientHello(f, &tls.Config{ServerName: "old.example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}), uint16(100))
	f.Add(nettest.ClientHello(f, &tls.Config{ServerName: "p.example", NextProtos: []string{"h2", "http/1.1"}}), uint16(1))
	f.Add(nettest.ClientHello(f, &tls.Config{ServerName: "secret.example", NextProtos: []string{"h2"},
		EncryptedClientHelloConfigList: nettest.ECHConfigs(f, "outer.example")}), uint16(1))
	f.Add([]byte("\x16\x03\x01\x00\x04\x01\xff\xff\xff"), uint16(0))
	f.Add([]byte("\x15\x03\x01\x00\x02\x01\x00"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		got := parseHello(b)
		if want := nettest.HelloByTLS(b); want != nil && onlyHandshakes(b) {
			require.NoError(t, got.err)
			require.Equal(t, want.ServerName, got.name)
			require.Equal(t, want.SupportedProtos, got.protocols)
			if !slices.Contains(want.Extensions, 0xfe0d) {
				require.False(t, got.ech)
			}
		}
		if got.err != nil {
			require.Equal(t, said{err: got.err}, got)
		}
		if !errors.Is(got.err, tlshello.ErrMore) {
			require.Equal(t, got, parseHello(append(bytes.Clone(b), 22, 3, 1, 0, 1, 1)))
		}
		if part := parseHello(b[:min(int(n), len(b))]); !errors.Is(part.err, tlshello.ErrMore) {
			require.Equal(t, got, part)
		}
		if got.err == nil {
			require.Equal(t, got, parseHello(resplit(b, int(n))))
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
