package socks5

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGreeting(t *testing.T) {
	for text, want := range map[string]error{
		"":                          ErrMore,
		"\x05":                      ErrMore,
		"\x05\x00":                  ErrMethods,
		"\x05\x02\x00":              ErrMore,
		"\x04\x01\x00\x50":          ErrSOCKS4,
		"GET / HTTP/1.1\r\n":        ErrHTTP,
		"\x16\x03\x01":              ErrHTTP,
		"\r\n\x05\x01\x00":          ErrVersion,
		"\x00":                      ErrVersion,
		"\x05\x01\x00":              nil,
		"\x05\x02\x00\x02":          nil,
		"\x05\x01\x00\x05\x01\x00":  nil, // the request is there already
		"\x05\x03\x01\x02\x80other": nil,
	} {
		methods, n, err := ParseGreeting([]byte(text))
		require.ErrorIs(t, err, want, "%q", text)
		if err != nil {
			assert.Zero(t, n, "%q", text)
			continue
		}
		assert.Equal(t, 2+int(text[1]), n, "%q", text)
		assert.Equal(t, text[2:n], string(methods), "%q", text)
		assert.Equal(t, strings.Contains(text[2:n], "\x02"), Offers(methods, Login))
	}
}

func TestLogin(t *testing.T) {
	long := strings.Repeat("x", 255)
	for text, want := range map[string][2]string{
		"\x01\x01a\x01b":                    {"a", "b"},
		"\x01\x04user\x08passwordbehind":    {"user", "password"},
		"\x01\x00\x00":                      {"", ""},
		"\x01\x01a\x00":                     {"a", ""},
		"\x01\xff" + long + "\xff" + long:   {long, long},
		"\x01\x03\x00\xff\x01\x02\x00\xffx": {"\x00\xff\x01", "\x00\xff"},
	} {
		user, password, n, err := ParseLogin([]byte(text))
		require.NoError(t, err, "%q", text)
		assert.Equal(t, want, [2]string{string(user), string(password)})
		assert.Equal(t, 3+len(user)+len(password), n)
		assert.LessOrEqual(t, n, Most)
		for i := range n {
			_, _, _, err := ParseLogin([]byte(text[:i]))
			require.ErrorIs(t, err, ErrMore, "%q", text[:i])
		}
	}
	for _, text := range []string{"\x05\x01\x00", "\x00"} {
		_, _, _, err := ParseLogin([]byte(text))
		assert.ErrorIs(t, err, ErrLogin, "%q", text)
	}
}

func TestRequest(t *testing.T) {
	const port = "\x01\xbb"
	name := func(s string) string { return "\x03" + string(rune(len(s))) + s }
	long := strings.Repeat("a", 255)
	for address, want := range map[string]string{
		"\x01\xc0\x00\x02\x01":                          "192.0.2.1:443",
		"\x04\x20\x01\x0d\xb8" + zeros(11) + "\x01":     "[2001:db8::1]:443",
		"\x04" + zeros(10) + "\xff\xff\xc0\x00\x02\x01": "[::ffff:192.0.2.1]:443",
		name("www.example.com"):                         "www.example.com:443",
		name("192.0.2.1"):                               "192.0.2.1:443",
		name("2001:db8::1"):                             "[2001:db8::1]:443",
		name("[2001:db8::1]"):                           "[2001:db8::1]:443",
		name("a.test:80"):                               "[a.test:80]:443", // which names nothing
		name("[::1]:80"):                                "[::1]:80:443",    // nor does this
		"\x03\xff" + long:                               long + ":443",
	} {
		text := "\x05\x01\x00" + address + port
		r, n, err := ParseRequest([]byte(text + "behind"))
		require.NoError(t, err, "%q", text)
		assert.Equal(t, len(text), n)
		assert.Equal(t, want, string(r.AppendAuthority(nil)))
		assert.Equal(t, "CONNECT", string(r.Method()))
		assert.EqualValues(t, 443, r.Port)
		for i := range text {
			_, _, err := ParseRequest([]byte(text[:i]))
			require.ErrorIs(t, err, ErrMore, "%q", text[:i])
		}
	}
	for text, want := range map[string]*Error{
		"\x04\x01":                            ErrVersion,
		"\x05\x01\x01":                        ErrReserved,
		"\x05\x01\x00\x02":                    ErrAddressType,
		"\x05\x01\x00\x00\x00":                ErrAddressType,
		"\x05\x01\x00\x03\x00":                ErrNoName,
		"\x05\x02\x00\x01abcd" + port:         ErrBind,
		"\x05\x03\x00\x01abcd" + port:         ErrUDP,
		"\x05\x00\x00\x03\x01a" + port:        ErrCommand,
		"\x05\xf0\x00\x03\x01a" + port:        ErrCommand, // RESOLVE, as Tor has it
		"\x05\x03\x00\x04" + zeros(16) + "ab": ErrUDP,
	} {
		_, _, err := ParseRequest([]byte(text))
		assert.ErrorIs(t, err, want, "%q", text)
	}
	r, _, _ := ParseRequest([]byte("\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"))
	assert.Equal(t, "UDP-ASSOCIATE", string(r.Method()))
	assert.Equal(t, netip.IPv4Unspecified(), r.Addr)
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

func TestReplies(t *testing.T) {
	assert.Equal(t, "\x05\x02", string(AppendMethod(nil, Login)))
	assert.Equal(t, "\x01\x00", string(AppendLogin(nil, true)))
	assert.Equal(t, "\x01\x01", string(AppendLogin(nil, false)))
	assert.Equal(t, "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", string(AppendReply(nil, UnknownCommand)))
	assert.EqualValues(t, 8, UnknownAddressType, "the codes are those of RFC 1928")
}
