package nettest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
)

// ClientHello is what a client of crypto/tls with this configuration says first.
func ClientHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	w := &wire{}
	tls.Client(w, c).Handshake() // it is never answered
	require.NotEmpty(t, w.said.Bytes())
	return w.said.Bytes()
}

// HelloByTLS is the ClientHello that b begins with as crypto/tls reads it; nil when
// that takes it for none.
func HelloByTLS(b []byte) (hello *tls.ClientHelloInfo) {
	w := &wire{}
	w.heard.Write(b)
	tls.Server(w, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, errors.New("seen")
	}}).Handshake()
	return hello
}

// wire is a connection on which what is heard was said before, and all that is said is kept.
type wire struct{ heard, said bytes.Buffer }

func (w *wire) Read(b []byte) (int, error)     { return w.heard.Read(b) }
func (w *wire) Write(b []byte) (int, error)    { return w.said.Write(b) }
func (*wire) Close() error                     { return nil }
func (*wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// ECHConfigs is a list of one configuration for tls.Config.EncryptedClientHelloConfigList,
// of a server whose outer name is given (RFC 9849 section 4).
func ECHConfigs(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(list *cryptobyte.Builder) {
		list.AddUint16(0xfe0d) // version
		list.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) {
			c.AddUint8(1)       // config_id
			c.AddUint16(0x0020) // DHKEM(X25519, HKDF-SHA256)
			c.AddUint16LengthPrefixed(func(k *cryptobyte.Builder) { k.AddBytes(key.PublicKey().Bytes()) })
			c.AddUint16LengthPrefixed(func(suites *cryptobyte.Builder) {
				suites.AddUint16(1) // HKDF-SHA256
				suites.AddUint16(1) // AES-128-GCM
			})
			c.AddUint8(0) // maximum_name_length
			c.AddUint8LengthPrefixed(func(n *cryptobyte.Builder) { n.AddBytes([]byte(name)) })
			c.AddUint16(0) // no extensions
		})
	})
	return b.BytesOrPanic()
}
