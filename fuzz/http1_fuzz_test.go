package fuzz

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

var headLimits = http1.Limits{MaxHead: 64 << 10, MaxFields: 256}

// FuzzRequest: whatever our reader accepts, net/http accepts too, with the same
// method, target, fields and body length. The other way round is not wanted: we
// refuse more. Only a % alone in the target, which is passed on, net/http refuses.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n",
		"GET http://a.test HTTP/1.0\r\n\r\n",
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n\x16\x03\x01",
		"CONNECT a.test:443 HTTP/1.0\r\n\r\n",
		"POST http://a.test/ HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabcGET",
		"POST http://a.test/ HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;e\r\nabc\r\n0\r\nX: y\r\n\r\nGET",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
		"GET http://[::1]:80/%20 HTTP/1.1\r\nHost: [::1]\r\nPragma: no-cache\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"GET http://a.test/100%/%zz?% HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, timeout=15\r\nExpect:\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var ours http1.Request
		n, err := ours.Parse(in, headLimits)
		if err != nil {
			return
		}
		target, err := ours.ParseTarget()
		if err != nil || !authorityOK(target) {
			return
		}
		uri := escapePercent(ours.Target)
		asked := bytes.Replace(in, ours.Target, uri, 1)
		if bytes.Contains(ours.Method, ours.Target) { // as for OPTIONS *
			asked = in
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(asked)))
		if err != nil {
			t.Fatalf("net/http refuses what we accept: %v\n%q", err, in[:n])
		}
		if theirs.Method != string(ours.Method) || theirs.RequestURI != string(uri) {
			t.Fatalf("request line: ours %q %q, theirs %q %q", ours.Method, ours.Target, theirs.Method, theirs.RequestURI)
		}
		compareFields(t, ours.Fields, theirs.Header, theirs.Host, target.Form)
		compareBody(t, &ours.Head, in[n:], theirs.Body, false)
	})
}

// escapePercent escapes each % that does not stand before two hex digits.
func escapePercent(target []byte) (out []byte) {
	isHex := func(i int) bool {
		return i < len(target) && strings.IndexByte("0123456789abcdefABCDEF", target[i]) >= 0
	}
	for i, c := range target {
		if out = append(out, c); c == '%' && !(isHex(i+1) && isHex(i+2)) {
			out = append(out, "25"...)
		}
	}
	return out
}

// authorityOK reports whether acl, which judges authorities, takes the target's.
func authorityOK(t http1.Target) (ok bool) {
	switch t.Form {
	case http1.AbsoluteForm:
		_, err := acl.ParseTargetDefault(string(t.Authority), 80)
		return err == nil
	case http1.AuthorityForm:
		_, err := acl.ParseTarget(string(t.Authority))
		return err == nil
	}
	return true
}

// FuzzResponse is FuzzRequest for what a server sends, in the form in which it goes on: of
// that, net/http and our strict reader make the same.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.0 200\r\n\r\neverything",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
		"HTTP/1.1 200 OK\r\nServer : x\r\nTransfer-Encoding\t: chunked\r\n\r\n3  \r\nabc\r\n2\t;x=y\r\nde\r\n0 \r\nX : y\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		var ours http1.Response
		n, err := ours.Parse(in, head, headLimits)
		if err != nil {
			return
		}
		req := &http.Request{Method: "GET"}
		if head {
			req.Method = "HEAD"
		}
		bodiless := ours.Status < 200 || ours.Status == 204
		out := append([]byte(nil), in[:bytes.IndexByte(in, '\n')+1]...)
		var travels []http1.Field
		for _, f := range ours.Fields {
			if bodiless && (f.ID == http1.ContentLength || f.ID == http1.TransferEncoding) {
				continue
			}
			travels = append(travels, f)
			out = append(append(out, f.Name...), f.Line[bytes.IndexByte(f.Line, ':'):]...)
		}
		out = append(append(out, "\r\n"...), neatBody(t, &ours.Head, in[n:])...)
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), req)
		if err != nil {
			t.Fatalf("net/http refuses what we accept: %v\n%q", err, in[:n])
		}
		if theirs.StatusCode != ours.Status {
			t.Fatalf("status: ours %d, theirs %d", ours.Status, theirs.StatusCode)
		}
		compareFields(t, travels, theirs.Header, "", http1.NoForm)
		compareBody(t, &ours.Head, in[n:], theirs.Body, true)
	})
}

// neatBody is the body behind an answer's head as it goes on.
func neatBody(t *testing.T, h *http1.Head, rest []byte) (out []byte) {
	if h.Framing != http1.ChunkedEnc {
		return rest
	}
	c := http1.Chunked{Lenient: true}
	for !c.Done() {
		n, _, err := c.Next(rest)
		if err != nil {
			return append(out, rest...) // cut, or wrong
		}
		if c.Neat() {
			out = append(out, rest[:n]...)
		} else {
			out = c.AppendNeat(out, rest[:n])
		}
		rest = rest[n:]
	}
	if n, err := wireLength(out, len(out)+1); err != nil || n != len(out) {
		t.Fatalf("not what a strict reader takes: %q, %v", out, err)
	}
	return append(out, rest...)
}

func compareFields(t *testing.T, ours []http1.Field, theirs http.Header, host string, form http1.Form) {
	t.Helper()
	want := http.Header{}
	for _, f := range ours {
		want.Add(string(f.Name), string(f.Value))
	}
	// What net/http takes out of the header, or adds to it, by itself.
	if form == http1.OriginForm || form == http1.AsteriskForm {
		if got := want.Get("Host"); got != host {
			t.Fatalf("host: ours %q, theirs %q", got, host)
		}
	}
	for _, name := range []string{"Host", "Transfer-Encoding", "Trailer", "Cache-Control"} {
		want.Del(name)
		theirs.Del(name)
	}
	if len(want) != len(theirs) {
		t.Fatalf("fields: ours %v, theirs %v", want, theirs)
	}
	for name, values := range want {
		if got := theirs[name]; strings.Join(got, "\n") != strings.Join(values, "\n") {
			t.Fatalf("field %s: ours %q, theirs %q", name, values, got)
		}
	}
}

// compareBody reads the body as we frame it and as net/http does.
func compareBody(t *testing.T, h *http1.Head, rest []byte, theirs io.Reader, lenient bool) {
	t.Helper()
	got, ok := readBody(h, rest, lenient)
	want, err := io.ReadAll(theirs)
	if !ok {
		return // the input ends, or turns bad, inside of the body
	}
	if err != nil {
		t.Fatalf("net/http cannot read a body that we accept: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("body: ours %q, theirs %q", got, want)
	}
}

func readBody(h *http1.Head, rest []byte, lenient bool) (body []byte, whole bool) {
	switch h.Framing {
	case http1.Length:
		if int64(len(rest)) < h.Length {
			return nil, false
		}
		return rest[:h.Length], true
	case http1.UntilClose:
		return rest, true
	case http1.ChunkedEnc:
		c := http1.Chunked{Lenient: lenient}
		for !c.Done() {
			n, data, err := c.Next(rest)
			if err != nil {
				return nil, false
			}
			body, rest = append(body, data...), rest[n:]
		}
	}
	return body, true
}

// FuzzChunked: a body that we accept goes through unchanged however its bytes
// are cut, and its length on the wire does not depend on the cut.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), 1)
	f.Add([]byte("a;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET"), 3)
	f.Add([]byte("5\nhello\r\n0\r\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		step = max(1, step%64)
		whole, wholeErr := wireLength(in, len(in)+1)
		cut, cutErr := wireLength(in, step)
		if (wholeErr == nil) != (cutErr == nil) || whole != cut {
			t.Fatalf("at once: %d, %v; by %d: %d, %v", whole, wholeErr, step, cut, cutErr)
		}
	})
}

func wireLength(in []byte, step int) (int, error) {
	var c http1.Chunked
	consumed, have := 0, 0
	for !c.Done() {
		n, _, err := c.Next(in[consumed:have])
		if errors.Is(err, http1.ErrIncomplete) && have < len(in) {
			have = min(len(in), have+step)
			continue
		}
		if err != nil {
			return 0, err
		}
		consumed += n
	}
	return consumed, nil
}
