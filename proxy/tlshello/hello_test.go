package tlshello

import (
	"bytes"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// real are clients of crypto/tls, which all say something else.
func real(t *testing.T) map[string]*tls.Config {
	return map[string]*tls.Config{
		"no name":    {InsecureSkipVerify: true},
		"name":       {ServerName: "www.example.com"},
		"address":    {ServerName: "192.0.2.1"}, // no host_name (RFC 6066)
		"long name":  {ServerName: strings.Repeat("a.", 120) + "test"},
		"mixed case": {ServerName: "WWW.Example.COM"},
		"protocols":  {ServerName: "p.test", NextProtos: []string{"h2", "http/1.1", strings.Repeat("x", 255)}},
		"TLS 1.0":    {ServerName: "old.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"TLS 1.2":    {ServerName: "old.test", MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		"encrypted": {ServerName: "secret.test", NextProtos: []string{"h2"},
			EncryptedClientHelloConfigList: nettest.ECHConfigs(t, "outer.test")},
	}
}

// What a real client says is read as crypto/tls reads it, whole, in pieces, and
// with what comes behind.
func TestAsCryptoTLS(t *testing.T) {
	for name, c := range real(t) {
		b := nettest.ClientHello(t, c)
		want := nettest.HelloByTLS(b)
		require.NotNil(t, want, name)
		for i := range b {
			h, err := Parse(b[:i])
			require.ErrorIs(t, err, ErrMore, "%s, %d bytes", name, i)
			require.Zero(t, h)
		}
		for _, behind := range []string{"", "what comes behind"} {
			h, err := Parse(append(bytes.Clone(b), behind...))
			require.NoError(t, err, name)
			assert.Equal(t, want.ServerName, h.ServerName, name)
			assert.Equal(t, want.SupportedProtos, h.Protocols(), name)
			assert.Equal(t, slices.Contains(want.Extensions, extensionECH), h.ECH, name)
		}
	}
}

// Of an encrypted hello, what is seen is the outer one.
func TestEncrypted(t *testing.T) {
	h, err := Parse(nettest.ClientHello(t, real(t)["encrypted"]))
	require.NoError(t, err)
	assert.True(t, h.ECH)
	assert.Equal(t, "outer.test", h.ServerName)
}

func TestBeginnings(t *testing.T) {
	for text, want := range map[string]error{
		"":                                     ErrMore,
		"\x16":                                 ErrMore,
		"\x16\x03\x01":                         ErrMore,
		"\x16\x02":                             ErrNotTLS,
		"\x15\x03\x01\x00\x02":                 ErrNotTLS, // an alert
		"\x16\x03\x01\x00\x00":                 ErrNotTLS, // an empty record
		"\x16\x03\x01\x48\x01":                 ErrNotTLS, // a record that is too long
		"\x16\x03\x01\x00\x01\x02":             ErrNotTLS, // a ServerHello
		"\x16\x03\x01\x00\x04\x01\xff\xff\xff": ErrNotTLS, // 16 MiB
		"\x16\x03\x01\x00\x04\x01\x01\x00\x00": ErrMore,   // 64 KiB
		"\x16\x03\x01\x00\x04\x01\x00\x00\x00": ErrNotTLS, // nothing in it
		"SSH-2.0-x\r\n":                        ErrNotTLS,
	} {
		h, err := Parse([]byte(text))
		assert.ErrorIs(t, err, want, "%q", text)
		assert.Zero(t, h, "%q", text)
	}
}

// hello is a ClientHello with these extensions, as bytes, in records of at most n bytes.
func hello(n int, extensions ...string) []byte {
	var m cryptobyte.Builder
	m.AddUint8(messageClientHello)
	m.AddUint24LengthPrefixed(func(m *cryptobyte.Builder) {
		m.AddBytes(make([]byte, 2+32+1))
		m.AddUint16(0)
		m.AddUint8(0)
		if extensions != nil {
			m.AddUint16LengthPrefixed(func(e *cryptobyte.Builder) { e.AddBytes([]byte(strings.Join(extensions, ""))) })
		}
	})
	var b cryptobyte.Builder
	for part := range slices.Chunk(m.BytesOrPanic(), n) {
		b.AddBytes([]byte("\x16\x03\x01"))
		b.AddUint16LengthPrefixed(func(r *cryptobyte.Builder) { r.AddBytes(part) })
	}
	return b.BytesOrPanic()
}

func TestExtensions(t *testing.T) {
	const (
		name  = "\x00\x00\x00\x06\x00\x04\x00\x00\x01a"
		alpn  = "\x00\x10\x00\x07\x00\x05\x02h2\x01x"
		outer = "\xfe\x0d\x00\x02\x00x"
		inner = "\xfe\x0d\x00\x01\x01"
	)
	good := []struct {
		extensions []string
		name       string
		protocols  []string
		ech        bool
	}{
		{},
		{extensions: []string{""}},
		{extensions: []string{"\xaa\xaa\x00\x00"}},
		{[]string{name, alpn, outer}, "a", []string{"h2", "x"}, true},
		{[]string{outer, "\xaa\xaa\x00\x01x", alpn, name}, "a", []string{"h2", "x"}, true},
		{extensions: []string{inner}},
		{extensions: []string{"\xfe\x0d\x00\x00"}, ech: true},
		{extensions: []string{"\xfe\x0d\x00\x02\x01x"}, ech: true},
		{extensions: []string{"\xfe\x0d\x00\x01\x02"}, ech: true},
		{extensions: []string{"\x00\x00\x00\x0a\x00\x08\x05\x00\x01z\x00\x00\x01a"}, name: "a"}, // another type of name first
		{extensions: []string{"\x00\x00\x00\x06\x00\x04\x05\x00\x01z"}},
	}
	for _, tt := range good {
		for _, n := range []int{1, 3, 40, 1 << 14} {
			h, err := Parse(hello(n, tt.extensions...))
			require.NoError(t, err, "%q", tt.extensions)
			assert.Equal(t, tt.name, h.ServerName, "%q", tt.extensions)
			assert.Equal(t, tt.protocols, h.Protocols(), "%q", tt.extensions)
			assert.Equal(t, tt.ech, h.ECH, "%q", tt.extensions)
		}
	}
	for what, extensions := range map[string][]string{
		"an extension cut off":        {"\x00\x00\x00"},
		"two names":                   {name, name},
		"two lists of protocols":      {alpn, alpn},
		"two encrypted":               {outer, inner},
		"two names in a list":         {"\x00\x00\x00\x0a\x00\x08\x00\x00\x01a\x00\x00\x01b"},
		"no list of names":            {"\x00\x00\x00\x00"},
		"an empty list of names":      {"\x00\x00\x00\x02\x00\x00"},
		"an empty name":               {"\x00\x00\x00\x05\x00\x03\x00\x00\x00"},
		"more behind the names":       {"\x00\x00\x00\x07\x00\x04\x00\x00\x01ab"},
		"a name cut off":              {"\x00\x00\x00\x06\x00\x04\x00\x00\x02a"},
		"no list of protocols":        {"\x00\x10\x00\x00"},
		"an empty list of protocols":  {"\x00\x10\x00\x02\x00\x00"},
		"an empty protocol":           {"\x00\x10\x00\x05\x00\x03\x01x\x00"},
		"more behind the protocols":   {"\x00\x10\x00\x05\x00\x02\x01xy"},
		"a protocol cut off":          {"\x00\x10\x00\x04\x00\x02\x02x"},
		"a name, then bad protocols":  {name, "\x00\x10\x00\x00"},
		"good ones, then one cut off": {name, alpn, outer, "\x00"},
	} {
		h, err := Parse(hello(1<<14, extensions...))
		assert.ErrorIs(t, err, ErrNotTLS, what)
		assert.Zero(t, h, what)
	}
}

// What has come of the message is put together elsewhere than in the bytes given.
func TestInputStays(t *testing.T) {
	b := hello(3, "\x00\x00\x00\x06\x00\x04\x00\x00\x01a")
	was := bytes.Clone(b)
	_, err := Parse(b)
	require.NoError(t, err)
	assert.Equal(t, was, b)
}

func TestAllocations(t *testing.T) {
	b := nettest.ClientHello(t, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}})
	assert.EqualValues(t, 1, testing.AllocsPerRun(100, func() {
		if _, err := Parse(b); err != nil {
			t.Fatal(err)
		}
	}), "the name")
}

// Missing never asks for a byte too many, and says when there is something to be said: however
// the ClientHello is cut into records.
func TestMissing(t *testing.T) {
	long := "\xaa\xaa\x40\x00" + strings.Repeat("x", 1<<14)
	hellos := [][]byte{hello(1<<14, long, long, long), hello(1, "\x00\x00\x00\x06\x00\x04\x00\x00\x01a"), hello(3), []byte("GET / HTTP/1.1\r\n"), []byte("\x16\x03\x01\x00\x04\x01\xff\xff\xff")}
	for _, n := range []int{1, 7, 1000} {
		hellos = append(hellos, hello(n, long[:4]+long[4:]))
	}
	for _, c := range real(t) {
		hellos = append(hellos, nettest.ClientHello(t, c))
	}
	for _, b := range hellos {
		asked := 0
		for i := 0; i <= len(b); {
			m := Missing(b[:i])
			_, err := Parse(b[:i])
			require.Equal(t, m > 0, err == ErrMore, "%d bytes of %d", i, len(b))
			if asked++; m == 0 {
				break
			}
			if m > 1 && i+m-1 <= len(b) {
				_, err = Parse(b[:i+m-1])
				require.ErrorIs(t, err, ErrMore, "%d bytes were to be missing at %d", m, i)
			}
			i += m
		}
		assert.LessOrEqual(t, asked, 100, "a few looks at %d bytes", len(b))
	}
}
