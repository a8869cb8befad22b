package wire

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// What is written is read again as it was, in whatever pieces it comes.
func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 100, 100 << 10} {
		said := bytes.Repeat([]byte("x"), size)
		var b bytes.Buffer
		b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		readErr, writeErr := CopyBody(&b, bytes.NewReader(said), true, func() http.Header { return http.Header{"X-Last": {"1", "2"}} }, make([]byte, 32<<10))
		require.NoError(t, readErr)
		require.NoError(t, writeErr)
		for _, src := range []io.Reader{bytes.NewReader(b.Bytes()), iotest.OneByteReader(bytes.NewReader(b.Bytes()))} {
			r := Reader{Src: src}
			var head http1.Response
			require.NoError(t, r.Response(&head, false, http1.Limits{MaxHead: 1 << 10, MaxFields: 10}))
			var last []string
			body := Body{From: &r, Trailer: func(_, v []byte) { last = append(last, string(v)) }}
			body.Begin(&head.Head, true)
			got, err := io.ReadAll(&body)
			require.NoError(t, err)
			assert.Equal(t, string(said), string(got))
			assert.Equal(t, []string{"1", "2"}, last)
			assert.True(t, body.Whole())
			r.Release()
		}
	}
}

// A message that ends before its end is not whole, wherever that is.
func TestCutAnywhere(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
	for n := range len(whole) {
		r := Reader{Src: strings.NewReader(whole[:n])}
		var head http1.Response
		if r.Response(&head, false, http1.Limits{MaxHead: 1 << 10, MaxFields: 10}) != nil {
			continue
		}
		body := Body{From: &r}
		body.Begin(&head.Head, true)
		_, err := io.ReadAll(&body)
		assert.Equal(t, io.ErrUnexpectedEOF, err, n)
		assert.False(t, body.Whole())
	}
}

func TestCheckFields(t *testing.T) {
	for name, h := range map[string]http.Header{
		"Connection": {"Connection": {"x"}}, "Transfer-Encoding": {"Transfer-Encoding": {"chunked"}}, "Upgrade": {"Upgrade": {"h2c"}},
		"TE": {"Te": {"gzip"}}, "CR": {"X": {"a\rb"}}, "LF": {"X": {"a\nb"}}, "NUL": {"X": {"a\x00b"}}, "name": {"X Y": {"a"}}, "colon": {"X:": {"a"}}, "no name": {"": {"a"}},
	} {
		assert.Error(t, CheckFields(h), name)
	}
	assert.NoError(t, CheckFields(http.Header{"Te": {"trailers"}, "X": {"a\tb", "\xff"}, "Http2-Settings": {"AAMAAABk"}}))
}
