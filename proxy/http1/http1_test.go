package http1

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var lim = Limits{MaxHead: 64 << 10, MaxFields: 256}

// crlf writes a head the way people read it: one line a line.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

func TestParseRequest(t *testing.T) {
	tests := []struct {
		want string // "" accepted, else the exact error
		in   string
	}{
		{"", crlf("GET http://a.test/ HTTP/1.1", "Host: a.test", "")},
		{"", crlf("GET http://a.test/ HTTP/1.0", "")}, // no Host in HTTP/1.0
		{"", crlf("CONNECT a.test:443 HTTP/1.0", "")}, // Python up to 3.11
		{"", crlf("CONNECT a.test:443 HTTP/1.1", "")}, // authority is in the line
		{"", crlf("CONNECT a.test:443 HTTP/1.1", "Content-Length: 0", "")},
		{"", crlf("OPTIONS * HTTP/1.1", "Host: a", "")},
		{"", crlf("GET / HTTP/1.1", "Host:", "")},           // empty is what RFC 9112 3.2 asks of some
		{"", crlf("GET /\xc3\xbc HTTP/1.1", "Host: a", "")}, // curl sends paths as typed
		{"", crlf("GET / HTTP/1.1", "Host: a", "X:\t tab\tinside \t", "")},
		{"", crlf("GET / HTTP/1.1", "Host: a", "X: \xff\xfe", "")}, // obs-text
		{"", crlf("GET / HTTP/1.1", "Host: a", "X:", "")},
		{"", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 9223372036854775807", "")},
		{"", crlf("POST / HTTP/1.1", "Host: a", "transfer-encoding: CHUNKED", "")},
		{"", crlf("GET / HTTP/1.1", "Host: a", "Connection: a b", "")}, // a member that is no token
		{"", crlf("GET / HTTP/1.1", "Host: a", "Connection: Keep-Alive, timeout=15", "")},
		{"", crlf("GET / HTTP/1.1", "Host: a", "Expect:", "")},
		{"", crlf("GET / HTTP/1.1", "Host: a", "Expect: ,100-continue, 100-Continue", "")},

		// RFC 9112 section 2.2: line ends.
		{"line ends in a bare LF, not CRLF", "GET / HTTP/1.1\nHost: a\n\n"},
		{"line ends in a bare LF, not CRLF", "GET / HTTP/1.1\r\nHost: a\n\r\n"},
		{"control byte in a header field", crlf("GET / HTTP/1.1", "Host: a", "X: a\rY: b", "")},
		{"control byte in a header field", crlf("GET / HTTP/1.1", "Host: a", "X: a\x00b", "")},
		{"control byte in a header field", crlf("GET / HTTP/1.1", "Host: a", "X: a\x7f", "")},

		// Request line.
		{"malformed request line, want METHOD SP TARGET SP VERSION", "\x00\x03"},
		// Other protocols, refused at their first byte.
		{"the client speaks TLS, and this port speaks HTTP: name the proxy as http://, not https://", "\x16\x03\x01\x02\x00"},
		{"the client speaks SOCKS5, and this port speaks HTTP: name the proxy as http://, not socks5://, or have it listen for SOCKS (--listen-socks)", "\x05\x01\x00"},
		{"the client speaks SOCKS4, and this port speaks HTTP: name the proxy as http://, not socks4://", "\x04\x01\x00P"},
		{"malformed request line, want METHOD SP TARGET SP VERSION", crlf("GET /", "")},
		{"control byte or space in the request target", crlf("GET  / HTTP/1.1", "")},
		{"control byte or space in the request target", crlf("GET /a b HTTP/1.1", "")},
		{"control byte or space in the request target", crlf("GET /#f HTTP/1.1", "")},
		{"malformed method", crlf("G\"T / HTTP/1.1", "")},
		{"HTTP version not supported, want HTTP/1.0 or HTTP/1.1", crlf("GET / HTTP/2.0", "")},
		{"HTTP version not supported, want HTTP/1.0 or HTTP/1.1", crlf("GET / HTTP/1.2", "")},
		{"malformed HTTP version", crlf("GET / http/1.1", "")},
		{"malformed HTTP version", crlf("GET / HTTP/01.1", "")},

		// Field lines.
		{"folded header field", crlf("GET / HTTP/1.1", "Host: a", "X: a", " b", "")},
		{"folded header field", crlf("GET / HTTP/1.1", " Host: a", "")},
		{"white space before the colon of a header field", crlf("GET / HTTP/1.1", "Host : a", "")},
		{"white space before the colon of a header field", crlf("GET / HTTP/1.1", "Host: a", "Content-Length\t: 3", "")},
		{"malformed header field name", crlf("GET / HTTP/1.1", ": a", "")},
		{"malformed header field name", crlf("GET / HTTP/1.1", "Ho st: a", "")},
		{"malformed header field name", crlf("GET / HTTP/1.1", "no colon", "")},
		{"malformed header field name", crlf("GET / HTTP/1.1", "H\xc3\xb6st: a", "")},

		// Host.
		{"more than one Host field", crlf("GET / HTTP/1.1", "Host: a", "host: a", "")},
		{"more than one Host field", crlf("CONNECT a:1 HTTP/1.1", "Host: a", "Host: b", "")},
		{"no Host field in an HTTP/1.1 request", crlf("GET / HTTP/1.1", "")},
		{"malformed Host field", crlf("GET / HTTP/1.1", "Host: a b", "")},
		{"malformed Host field", crlf("GET / HTTP/1.1", "Host: a/b", "")},

		// Framing, RFC 9112 section 6.3: whatever could be read in two ways.
		{"more than one Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Content-Length: 3", "")},
		{"more than one Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Content-Length: 4", "")},
		{"malformed Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 3, 3", "")},
		{"malformed Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: +3", "")},
		{"malformed Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: -1", "")},
		{"malformed Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 0x3", "")},
		{"malformed Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length:", "")},
		{"malformed Content-Length", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 9223372036854775808", "")},
		{"both Content-Length and Transfer-Encoding", crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Transfer-Encoding: chunked", "")},
		{"both Content-Length and Transfer-Encoding", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 0", "")},
		{"transfer coding other than chunked", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked", "")},
		{"transfer coding other than chunked", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, chunked", "")},
		{"transfer coding other than chunked", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "")},
		{"transfer coding other than chunked", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \"chunked\"", "")},
		{"transfer coding other than chunked", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked", "")},
		{"transfer coding other than chunked", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:", "")},
		{"control byte in a header field", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \x0bchunked", "")},
		{"Transfer-Encoding in an HTTP/1.0 message", crlf("POST / HTTP/1.0", "Transfer-Encoding: chunked", "")},
		{"CONNECT with a body", crlf("CONNECT a:1 HTTP/1.1", "Content-Length: 1", "")},
		{"CONNECT with a body", crlf("CONNECT a:1 HTTP/1.1", "Transfer-Encoding: chunked", "")},
		{"TRACE with a body", crlf("TRACE / HTTP/1.1", "Host: a", "Content-Length: 1", "")},

		{"expectation other than 100-continue", crlf("GET / HTTP/1.1", "Host: a", "Expect: 200-ok", "")},
		{"expectation other than 100-continue", crlf("GET / HTTP/1.1", "Host: a", "Expect: 100-continue, x", "")},
		{"white space before the colon of a header field", crlf("GET / HTTP/1.1", "Host: a", "X \t: a", "")},
		{"malformed Max-Forwards", crlf("TRACE / HTTP/1.1", "Host: a", "Max-Forwards: x", "")},
		{"malformed Max-Forwards", crlf("TRACE / HTTP/1.1", "Host: a", "Max-Forwards: 1", "Max-Forwards: 0", "")},
		{"field that may not stand in a trailer section", crlf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Trailer: x, Content-Length", "")},
	}
	for _, tt := range tests {
		var r Request
		n, err := r.Parse([]byte(tt.in+"rest"), lim)
		if tt.want == "" {
			if assert.NoError(t, err, "%q", tt.in) {
				assert.Equal(t, len(tt.in), n, "%q", tt.in)
			}
			continue
		}
		var e *Error
		if assert.ErrorAs(t, err, &e, "%q", tt.in) {
			assert.Equal(t, tt.want, e.Error(), "%q", tt.in)
		}
	}
}

func TestRequestFields(t *testing.T) {
	var r Request
	in := crlf("POST http://A.test:80/x?y HTTP/1.1", "Host:  a.test ", "Content-Length: 5", "Connection: X-Hop, upgrade",
		"Upgrade: websocket", "X-Hop: 1", "X-Stay: 2", "Proxy-Authorization: Basic eA==", "Keep-Alive: 3",
		"TE: trailers", "Expect: 100-Continue", "Max-Forwards: 7", "")
	n, err := r.Parse([]byte(in), lim)
	require.NoError(t, err)
	assert.Equal(t, len(in), n)
	assert.Equal(t, "POST", string(r.Method))
	assert.Equal(t, "http://A.test:80/x?y", string(r.Target))
	assert.Equal(t, "a.test", string(r.Host))
	assert.Equal(t, Length, r.Framing)
	assert.EqualValues(t, 5, r.Length)
	assert.True(t, r.KeepAlive)
	assert.True(t, r.Expect)
	assert.True(t, r.Trailers)
	assert.Equal(t, 7, r.MaxForwards)
	assert.Equal(t, "websocket", string(r.Upgrade))
	assert.Equal(t, "X-Stay: 2\r\n", string(r.AppendFields(nil, Host, ContentLength, Expect, MaxForwards)))
	tg, err := r.ParseTarget()
	require.NoError(t, err)
	assert.Equal(t, Target{AbsoluteForm, "http", []byte("A.test:80"), []byte("/x?y")}, tg)
}

// A named field that carries the framing or the target stays: `Connection: Host`
// must not make a message of another meaning.
func TestConnectionCannotNameFraming(t *testing.T) {
	var r Request
	in := crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Connection: Host, Content-Length, Cookie", "Cookie: c", "")
	_, err := r.Parse([]byte(in), lim)
	require.NoError(t, err)
	assert.Equal(t, "Host: a\r\nContent-Length: 5\r\n", string(r.AppendFields(nil)))
}

// Of a list, the members that are no tokens are dropped, and the others honoured.
func TestConnectionMembers(t *testing.T) {
	var r Request
	_, err := r.Parse([]byte(crlf("GET / HTTP/1.0", "Connection: Keep-Alive, timeout=15, X-Hop, a b", "X-Hop: 1", "Timeout: 2", "")), lim)
	require.NoError(t, err)
	assert.True(t, r.KeepAlive)
	assert.Equal(t, "Timeout: 2\r\n", string(r.AppendFields(nil)))
}

// What does not go on: an Expect that asks for nothing, and h2c with its settings.
func TestFieldsThatSayNothing(t *testing.T) {
	tests := []struct{ upgrade, fields, in string }{
		{"", "", crlf("GET / HTTP/1.1", "Expect: ", "")},
		{"", "Expect: 100-continue\r\n", crlf("GET / HTTP/1.1", "Expect: 100-continue", "")},
		{"", "", crlf("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "")},
		{"", "", crlf("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: H2C", "HTTP2-Settings: AAMAAABk", "")}, // which Connection does not name
		{"websocket", "", crlf("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c, websocket", "")},
		{"a, b/2", "", crlf("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: a,,h2c , b/2", "")},
		{"websocket", "", crlf("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c", "")},
		{"", "", crlf("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade:", "")},
		{"h2c-x", "", crlf("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c-x", "")},
	}
	for _, tt := range tests {
		var r Request
		_, err := r.Parse([]byte(strings.Replace(tt.in, "\r\n", "\r\nHost: a\r\n", 1)), lim)
		require.NoError(t, err, tt.in)
		assert.Equal(t, tt.upgrade, string(r.Upgrade), tt.in)
		assert.Equal(t, tt.upgrade == "", r.Upgrade == nil, tt.in)
		assert.Equal(t, tt.fields, string(r.AppendFields(nil, Host)), tt.in)
	}
}

func TestKeepAlive(t *testing.T) {
	tests := []struct {
		want    bool
		version string
		field   string
	}{
		{true, "HTTP/1.1", "X: y"},
		{false, "HTTP/1.1", "Connection: close"},
		{false, "HTTP/1.1", "Connection: foo, CLOSE"},
		{false, "HTTP/1.1", "Connection: keep-alive, close"},
		{false, "HTTP/1.0", "X: y"},
		{true, "HTTP/1.0", "Connection: Keep-Alive"},
		{true, "HTTP/1.0", "Proxy-Connection: Keep-Alive"},
	}
	for _, tt := range tests {
		var r Request
		_, err := r.Parse([]byte(crlf("GET / "+tt.version, "Host: a", tt.field, "")), lim)
		require.NoError(t, err)
		assert.Equal(t, tt.want, r.KeepAlive, "%s %s", tt.version, tt.field)
	}
}

func TestParseTarget(t *testing.T) {
	tests := []struct {
		want   string
		method string
		target string
	}{
		{"", "GET", "http://a.test"},
		{"", "GET", "HTTP://a.test?q"},
		{"", "GET", "https://a.test/%2f?%zz"},
		{"", "GET", "http://a.test/%zz"}, // a path is the server's own business, as a query is
		{"", "GET", "http://a.test/100%"},
		{"", "GET", "/origin"},
		{"", "OPTIONS", "*"},
		{"", "CONNECT", "a.test:443"},
		{"malformed request target", "GET", "*"},
		{"malformed request target", "GET", "a.test/x"},
		{"malformed request target", "GET", "://a.test/x"},
		{"scheme other than http and https", "GET", "ftp://a.test/x"},
		{"scheme other than http and https", "GET", "ws://a.test/x"},
		{"no authority in the request target", "GET", "http:///x"},
		{"CONNECT wants host:port", "CONNECT", "http://a.test/"},
		{"CONNECT wants host:port", "CONNECT", "/"},
	}
	for _, tt := range tests {
		r := Request{Method: []byte(tt.method), Target: []byte(tt.target)}
		_, err := r.ParseTarget()
		if tt.want == "" {
			assert.NoError(t, err, tt.target)
		} else {
			assert.EqualError(t, err, tt.want, tt.target)
		}
	}
}

// Every prefix of a head is incomplete, and a head that comes a byte at a time
// is the same as one that comes at once.
func TestIncremental(t *testing.T) {
	in := []byte(crlf("GET / HTTP/1.1", "Host: a", "X: y", ""))
	var r Request
	for i := range in {
		_, err := r.Parse(in[:i], lim)
		require.ErrorIs(t, err, ErrIncomplete, "%d", i)
	}
	n, err := r.Parse(in, lim)
	require.NoError(t, err)
	assert.Equal(t, len(in), n)
	assert.Len(t, r.Fields, 2)
}

func TestLimits(t *testing.T) {
	head := func(fields int) []byte {
		return []byte(crlf("GET / HTTP/1.1", "Host: a") + strings.Repeat("X: y\r\n", fields-1) + "\r\n")
	}
	small := Limits{MaxHead: len(head(4)), MaxFields: 4}
	tests := []struct {
		want string
		lim  Limits
		in   []byte
	}{
		{"", small, head(4)},
		{"more header fields than the limit", Limits{1000, 3}, head(4)},
		{"head larger than the limit", Limits{small.MaxHead - 1, 4}, head(4)},
		{"head larger than the limit", Limits{10, 4}, []byte("GET /aaaaaaaaa")}, // before its end is seen
	}
	for _, tt := range tests {
		var r Request
		_, err := r.Parse(tt.in, tt.lim)
		if tt.want == "" {
			assert.NoError(t, err)
			continue
		}
		assert.EqualError(t, err, tt.want)
		var e *Error
		require.True(t, errors.As(err, &e))
		assert.Equal(t, 431, e.Status)
	}
}

func TestParseResponse(t *testing.T) {
	tests := []struct {
		want    string
		framing Framing
		toHead  bool
		in      string
	}{
		{"", Length, false, crlf("HTTP/1.1 200 OK", "Content-Length: 5", "")},
		{"", NoBody, true, crlf("HTTP/1.1 200 OK", "Content-Length: 5", "")},
		{"", NoBody, false, crlf("HTTP/1.1 304 Not Modified", "Content-Length: 5", "")},
		{"", NoBody, false, crlf("HTTP/1.1 204 No Content", "")},
		{"", NoBody, false, crlf("HTTP/1.1 204 No Content", "Content-Length: 0", "")},
		{"", NoBody, false, crlf("HTTP/1.1 200", "Content-Length: 0", "")},
		{"", UntilClose, false, crlf("HTTP/1.0 200 OK", "")},
		{"", UntilClose, false, crlf("HTTP/1.1 200 ", "")},
		{"", ChunkedEnc, false, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "")},
		{"", NoBody, true, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "")},
		{"", NoBody, false, crlf("HTTP/1.1 100 Continue", "")},
		{"", NoBody, false, crlf("HTTP/1.1 204 No", "Content-Length: 5", "")}, // see TestBodilessAnswer
		{"", NoBody, false, crlf("HTTP/1.1 101 S", "Transfer-Encoding: chunked", "")},
		{"", Length, false, crlf("HTTP/1.1 200 OK", "Content-Length \t: 5", "")},
		{"", ChunkedEnc, false, crlf("HTTP/1.1 200 OK", "Transfer-Encoding : chunked", "")},
		{"malformed header field name", 0, false, crlf("HTTP/1.1 200 OK", "X y : 5", "")},
		{"folded header field", 0, false, crlf("HTTP/1.1 200 OK", " : 5", "")},
		{"more than one Content-Length", 0, false, crlf("HTTP/1.1 200 OK", "Content-Length : 5", "Content-Length: 5", "")},
		{"more than one Content-Length", 0, true, crlf("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6", "")},
		{"more than one Content-Length", 0, false, crlf("HTTP/1.1 304 OK", "Content-Length: 5", "Content-Length: 6", "")},
		{"both Content-Length and Transfer-Encoding", 0, false, crlf("HTTP/1.1 200 OK", "Content-Length : 5", "Transfer-Encoding: chunked", "")},
		{"Transfer-Encoding in an HTTP/1.0 message", 0, false, crlf("HTTP/1.0 200 OK", "Transfer-Encoding: chunked", "")},
		{"malformed status line", 0, false, "SSH-2.0-OpenSSH\r\n"},
		{"malformed status line", 0, false, crlf("HTTP/1.1 2000 OK", "")},
		{"malformed status code", 0, false, crlf("HTTP/1.1  200 OK", "")},
		{"malformed status code", 0, false, crlf("HTTP/1.1 099 OK", "")},
		{"malformed status line", 0, false, crlf("HTTP/1.1 200 a\x01", "")},
		{"HTTP version not supported, want HTTP/1.0 or HTTP/1.1", 0, false, crlf("HTTP/3.0 200 OK", "")},
		{"more than one Content-Length", 0, false, crlf("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 5", "")},
		{"both Content-Length and Transfer-Encoding", 0, false, crlf("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked", "")},
		{"transfer coding other than chunked", 0, false, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: identity", "")},
		{"line ends in a bare LF, not CRLF", 0, false, "HTTP/1.1 200 OK\n\n"},
	}
	for _, tt := range tests {
		var r Response
		_, err := r.Parse([]byte(tt.in), tt.toHead, lim)
		if tt.want != "" {
			assert.EqualError(t, err, tt.want, "%q", tt.in)
			continue
		}
		if assert.NoError(t, err, "%q", tt.in) {
			assert.Equal(t, tt.framing, r.Framing, "%q", tt.in)
		}
	}
}

// A 204 or 1xx ends at its empty line, and who frames a body for it is not believed again.
func TestBodilessAnswer(t *testing.T) {
	for _, status := range []string{"204", "100", "103", "101"} {
		for _, tt := range []struct {
			keep   bool
			fields string
		}{
			{true, "X: y\r\n"},
			{false, "Content-Length: 5\r\n"},
			{false, "Content-Length: 0\r\n"},
			{false, "Content-Length: x\r\nContent-Length: 5\r\n"},
			{false, "Transfer-Encoding: chunked\r\n"},
			{false, "Transfer-Encoding: gzip\r\n"},
			{false, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"},
		} {
			var r Response
			in := "HTTP/1.1 " + status + " x\r\n" + tt.fields + "\r\n"
			n, err := r.Parse([]byte(in+"hello"), false, lim)
			require.NoError(t, err, in)
			assert.Equal(t, len(in), n, in)
			assert.Equal(t, NoBody, r.Framing, in)
			assert.Equal(t, tt.keep, r.KeepAlive, in)
			assert.False(t, r.HasLength(), in)
			assert.False(t, r.ChunkedField(), in)
		}
	}
}

// White space before a colon does not go on, nor does it hide what a field is.
func TestPaddedAnswerFields(t *testing.T) {
	var r Response
	_, err := r.Parse([]byte(crlf("HTTP/1.1 200 OK", "Server : a:b;c", "X\t :y", "Z: z", "Keep-Alive : 5", "Connection : X-Hop", "X-Hop : 1", "")), false, lim)
	require.NoError(t, err)
	assert.Equal(t, "Server: a:b;c\r\nX:y\r\nZ: z\r\n", string(r.AppendFields(nil)))
	assert.Equal(t, "Server", string(r.Fields[0].Name))
}

// In an answer padding is passed over; what goes on is read by the strictest.
func TestLenientChunks(t *testing.T) {
	tests := []struct{ want, neat, in string }{
		{"", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
		{"", "5\r\nhello\r\n0\r\n\r\n", "5   \r\nhello\r\n0\t \r\n\r\n"},
		{"", "5;x=y \r\nhello\r\n0;\r\n\r\n", "5 \t;x=y \r\nhello\r\n0 ;\r\n\r\n"},
		{"", "5\r\n 5 \r\n\r\n0\r\n\r\n", "5\r\n 5 \r\n\r\n0\r\n\r\n"}, // data is not looked at
		{"", "0\r\nX: 1;:\r\nY:2\r\n\r\n", "0\r\nX : 1;:\r\nY:2\r\n\r\n"},
		{"malformed chunk size", "", " 5\r\nhello"},
		{"malformed chunk size", "", "5 5\r\nhello"},
		{"malformed chunk size", "", " \r\nhello"},
		{"malformed chunk size", "", "5,\r\nhello"},
		{"malformed chunk size", "", "5;x=\"\r\nhello"},
		{"malformed chunk size", "", "5\v\r\nhello"},
		{"line ends in a bare LF, not CRLF", "", "5 \nhello"},
		{"malformed header field name", "", "0\r\n : 1\r\n\r\n"},
		{"field that may not stand in a trailer section", "", "0\r\nContent-Length : 1\r\n\r\n"},
	}
	for _, tt := range tests {
		c := Chunked{Lenient: true}
		rest, neat := []byte(tt.in), []byte(nil)
		var err error
		for err == nil && !c.Done() {
			var n int
			if n, _, err = c.Next(rest); err == nil {
				if c.Neat() {
					neat = append(neat, rest[:n]...)
				} else {
					neat = c.AppendNeat(neat, rest[:n])
				}
				rest = rest[n:]
			}
		}
		if tt.want != "" {
			assert.EqualError(t, err, tt.want, "%q", tt.in)
			continue
		}
		assert.NoError(t, err, "%q", tt.in)
		assert.Equal(t, tt.neat, string(neat), "%q", tt.in)
	}
}

// One head of many fields does not have its room kept for ever.
func TestResetForgetsMuch(t *testing.T) {
	var r Response
	in := []byte("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1000) + "\r\n")
	_, err := r.Parse(in, false, Limits{MaxHead: 1 << 20, MaxFields: 1000})
	require.NoError(t, err)
	require.Len(t, r.Fields, 1000)
	r.Reset()
	assert.LessOrEqual(t, cap(r.Fields), keepFields)
}

func TestChunked(t *testing.T) {
	tests := []struct {
		want string
		data string
		in   string
	}{
		{"", "", "0\r\n\r\n"},
		{"", "hello world", "5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nX-T: 1\r\n\r\n"},
		{"", "0123456789abcdef", "0010\r\n0123456789abcdef\r\n0\r\n\r\n"},
		{"malformed chunk size", "", "\r\n"},
		{"malformed chunk size", "", "5 \r\nhello"},
		{"malformed chunk size", "", "0x5\r\nhello"},
		{"malformed chunk size", "", "-5\r\nhello"},
		{"malformed chunk size", "", "1000000000000000\r\n"}, // would not fit
		{"malformed chunk size", "", "5;a\rb\r\nhello"},
		{"", "a", "1;x=\"y;z\";u=\"\"\r\na\r\n0\r\n\r\n"},
		{"malformed chunk size", "", "1;x=\"\r\n\"\r\na\r\n0\r\n\r\n"}, // a quoted string may go on behind the line
		{"malformed chunk size", "", "1;x=\"\\\"\r\n"},
		{"malformed chunk size", "", "1;x=\"\\\"\"\r\n"},
		{"malformed chunk size", "", "1;\\\"x\"\r\n"},
		{"line ends in a bare LF, not CRLF", "", "5\nhello"},
		{"line ends in a bare LF, not CRLF", "hello", "5\r\nhello\r\n0\r\n\n"},
		{"chunk data not followed by CRLF", "hello", "5\r\nhello!!"},
		{"chunk data not followed by CRLF", "hello", "5\r\nhello\r!"},
		{"chunk size line or trailer section too long", "", "5;" + strings.Repeat("a", 2000)},
		{"chunk size line or trailer section too long", "", "0\r\n" + strings.Repeat("a", 5000)},
		{"field that may not stand in a trailer section", "", "0\r\nContent-Length: 3\r\n\r\n"},
		{"field that may not stand in a trailer section", "", "0\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"malformed header field name", "", "0\r\nno colon\r\n\r\n"},
	}
	for _, tt := range tests {
		for _, step := range []int{1, 3, len(tt.in)} { // however the bytes come
			var c Chunked
			var data []byte
			buf, in := []byte(nil), []byte(tt.in)
			var err error
			for !c.Done() {
				var n int
				var d []byte
				n, d, err = c.Next(buf)
				if errors.Is(err, ErrIncomplete) && len(in) > 0 {
					k := min(step, len(in))
					buf, in = append(buf, in[:k]...), in[k:]
					continue
				}
				if err != nil {
					break
				}
				data, buf = append(data, d...), buf[n:]
			}
			if tt.want == "" {
				assert.NoError(t, err, "%q by %d", tt.in, step)
			} else {
				assert.EqualError(t, err, tt.want, "%q by %d", tt.in, step)
			}
			assert.Equal(t, tt.data, string(data), "%q by %d", tt.in, step)
		}
	}
}

func TestSkipEmptyLines(t *testing.T) {
	for in, want := range map[string]int{"": 0, "\r": 0, "\r\n": 2, "\r\nGET": 2, "\r\n\r\nGET": 4, "\r\n\r\n\r\n": 4, "\nGET": 0} {
		assert.Equal(t, want, SkipEmptyLines([]byte(in)), "%q", in)
	}
}

const browserHead = "GET http://www.example.com/a/b?c=d HTTP/1.1\r\nHost: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: en\r\n" +
	"Accept-Encoding: gzip, deflate\r\nProxy-Connection: keep-alive\r\nCookie: a=b; c=d\r\n\r\n"

func TestNoAllocations(t *testing.T) {
	var r Request
	in := []byte(browserHead)
	out := make([]byte, 0, 4096)
	parse := func() {
		r.Reset()
		if _, err := r.Parse(in, lim); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ParseTarget(); err != nil {
			t.Fatal(err)
		}
		out = r.AppendFields(out[:0], Host, Via)
	}
	parse() // the field slice is made once
	assert.Zero(t, testing.AllocsPerRun(100, parse))
}

func BenchmarkParseRequest(b *testing.B) {
	var r Request
	in := []byte(browserHead)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if _, err := r.Parse(in, lim); err != nil {
			b.Fatal(err)
		}
	}
}
