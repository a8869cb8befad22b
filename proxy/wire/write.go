package wire

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ErrConnection is the error of a message of HTTP/2 with a field that speaks of its connection
// (RFC 9113 section 8.2.2): in HTTP/1.1 it would frame the message.
var ErrConnection = errors.New("a field of HTTP/2 that speaks of the connection")

// connection are those, in canonical form. TE is one of them but for "trailers". HTTP2-Settings, which
// frames nothing, is dropped by the front door.
var connection = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade"}

// CheckFields says what in h must not stand in a message of HTTP/1.1, nor in one of HTTP/2.
func CheckFields(h http.Header) error {
	for name, values := range h {
		if slices.Contains(connection, name) {
			return ErrConnection
		}
		if name == "Te" && (len(values) != 1 || !strings.EqualFold(values[0], "trailers")) {
			return ErrConnection
		}
		if err := CheckField(name, values...); err != nil {
			return err
		}
	}
	return nil
}

// CheckField says whether a field of that name and those values is one line each.
func CheckField(name string, values ...string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%.64q is not the name of a field", name)
	}
	for _, v := range values {
		if !httpguts.ValidHeaderFieldValue(v) {
			return fmt.Errorf("a control byte in the field %s", name)
		}
	}
	return nil
}

// AppendFields appends the lines of h, whose order among names net/http has lost: by name, and
// those of one name as they came. CheckFields has said that they are lines.
func AppendFields(b []byte, h http.Header) []byte {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	return b
}

// CopyBody writes a body as it comes: in chunks, with the trailer section that trailer returns
// behind it, or as it is. Each piece is written at once. readErr is of from, but for io.EOF,
// writeErr of to. buf is what it reads into.
func CopyBody(to io.Writer, from io.Reader, chunked bool, trailer func() http.Header, buf []byte) (readErr, writeErr error) {
	const front = 16 // for the size of a chunk
	for {
		n, err := from.Read(buf[front : len(buf)-2])
		if n > 0 {
			piece := buf[front : front+n]
			if chunked {
				size := append(strconv.AppendInt(make([]byte, 0, front), int64(n), 16), "\r\n"...)
				at := front - len(size)
				copy(buf[at:], size)
				piece = append(buf[at:front+n], "\r\n"...)
			}
			if _, err := to.Write(piece); err != nil {
				return nil, err
			}
		}
		switch {
		case err == io.EOF && chunked:
			behind := trailer()
			if err := CheckFields(behind); err != nil {
				return err, nil
			}
			_, err := to.Write(append(AppendFields([]byte("0\r\n"), behind), "\r\n"...))
			return nil, err
		case err == io.EOF:
			return nil, nil
		case err != nil:
			return err, nil
		}
	}
}
