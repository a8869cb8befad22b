package answer

import (
	"bytes"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/logline"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Established answers CONNECT. It has no field: what a client reads behind it is the
// server's.
const Established = "HTTP/1.1 200 Connection established\r\n\r\n"

// maxPhrase bounds a reason phrase: some clients read a status line into a small
// buffer.
const maxPhrase = 200

// To is what an answer of the proxy's own is made to fit.
type To struct {
	Req     *http1.Request // as much of it as could be read
	ID      uint64
	Now     time.Time
	Tenant  string       // whose the client is, where there are tenants
	Contact string       // whom to ask; "" leaves the line out
	Policy  *policy.Name // by which it was judged; nil: by none
	Keep    bool         // another request may follow
	Stream  bool         // the request is a stream of HTTP/2, as which alone a gRPC call comes
}

// Append appends o as the answer to a request, head and body, and returns the length of the
// body. HEAD is answered without one.
func (o *Own) Append(b []byte, to To) ([]byte, int) {
	kind, body := o.page(to)
	b = o.appendHead(b, to, kind, len(body))
	if string(to.Req.Method) == "HEAD" {
		return b, 0
	}
	return append(b, body...), len(body)
}

// AppendTrace answers TRACE: the request comes back as it was received, less the fields that
// may hold secrets (RFC 9110 section 9.3.8). It returns the length of the body.
func AppendTrace(b []byte, to To) ([]byte, int) {
	r := to.Req
	body := append([]byte(nil), r.Method...)
	body = append(append(append(body, ' '), r.Target...), " HTTP/1."...)
	body = append(body, '0'+byte(r.Minor), '\r', '\n')
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID == http1.ProxyAuthorization || f.ID == http1.Authorization || bytes.EqualFold(f.Name, []byte("Cookie")) {
			continue
		}
		body = append(body, f.Line...)
	}
	b = (&Own{Status: 200}).appendHead(b, to, "message/http", len(body))
	return append(b, body...), len(body)
}

func (o *Own) appendHead(b []byte, to To, kind string, length int) []byte {
	if kind == grpcKind {
		b = o.appendGRPC(append(appendStatus(b, 200), "OK"...), to)
	} else {
		b = appendPrintable(appendStatus(b, o.Status), o.phrase(), maxPhrase)
	}
	b = append(b, "\r\nDate: "...)
	b = to.Now.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
	if o.Class != "" {
		b = append(b, "\r\nProxy-Status: sluice; error="...)
		b = append(b, o.Class...)
		b = append(b, `; details="`...)
		b = appendStructuredString(b, o.details())
		b = append(b, '"')
		b = appendPolicy(b, to.Policy)
	}
	if o.RetryAfter > 0 {
		b = strconv.AppendInt(append(b, "\r\nRetry-After: "...), int64(o.RetryAfter), 10)
	}
	if o.Allow {
		b = append(b, "\r\nAllow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"...)
	}
	b = append(append(b, "\r\n"...), o.Challenge...)
	b = logline.ID(append(b, "X-Request-Id: "...), to.ID)
	b = append(append(b, "\r\nContent-Type: "...), kind...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(length), 10)
	b = append(b, "\r\nCache-Control: no-store\r\nVary: Accept\r\nX-Content-Type-Options: nosniff\r\nConnection: "...)
	if to.Keep {
		return append(b, "keep-alive\r\n\r\n"...)
	}
	return append(b, "close\r\n\r\n"...)
}

// appendPolicy appends what a request was judged by, as parameters of a Proxy-Status (RFC 9209
// section 2 lets a proxy have its own).
func appendPolicy(b []byte, p *policy.Name) []byte {
	if p == nil {
		return b
	}
	b = strconv.AppendUint(append(b, "; generation="...), p.Number, 10)
	if p.Hash != "" {
		b = append(append(append(b, `; policy="`...), p.Short()...), '"')
	}
	return b
}

// Forwarded is a server's final answer on its way to a client.
type Forwarded struct {
	Resp    *http1.Response
	Name    string // the proxy's pseudonym in Via
	Minor   int    // of the client's HTTP version
	Keep    bool   // another request may follow
	Dechunk bool   // the body goes on without its chunks
	Chunk   bool   // the body, which only an end delimits, goes on in chunks
	Stream  bool   // the server has sent it by HTTP/2
}

// AppendHead appends the head.
func (f *Forwarded) AppendHead(b []byte) []byte {
	r := f.Resp
	b = appendStatusLine(b, r)
	if r.Status == 204 {
		b = r.AppendFields(b, http1.ContentLength)
	} else {
		b = r.AppendFields(b)
	}
	if f.Stream {
		b = append(append(append(b, "Via: 2 "...), f.Name...), "\r\n"...)
	} else {
		b = appendVia(b, r.Minor, f.Name)
	}
	if r.ChunkedField() && !f.Dechunk && f.Minor == 1 || f.Chunk {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	// Some clients don't try a scheme that authenticates the connection through a proxy that
	// does not say that it can (RFC 4559 section 6).
	support := r.ConnAuth && r.Status == 401
	if support {
		b = append(b, "Proxy-Support: Session-Based-Authentication\r\n"...)
	}
	switch connection := f.connection(); {
	case connection == "" && support:
		b = append(b, "Connection: Proxy-Support\r\n"...)
	case connection != "":
		b = append(append(b, "Connection: "...), connection...)
		if support {
			b = append(b, ", Proxy-Support"...)
		}
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// connection is what the client must be told of its connection, if it can't know.
func (f *Forwarded) connection() string {
	switch {
	case !f.Keep:
		return "close"
	case f.Minor == 0:
		return "keep-alive"
	}
	return ""
}

// AppendInterim appends the head of an interim answer (1xx) of a server.
func AppendInterim(b []byte, r *http1.Response) []byte {
	b = appendStatusLine(b, r)
	return append(r.AppendFields(b, http1.ContentLength), "\r\n"...)
}

// AppendSwitched appends the head of a server's answer that it switches protocols (101); name
// is the proxy's pseudonym in Via.
func AppendSwitched(b []byte, r *http1.Response, name string) []byte {
	b = appendStatusLine(b, r)
	b = r.AppendFields(b, http1.ContentLength)
	b = appendVia(b, r.Minor, name)
	b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
	return append(append(b, r.Upgrade...), "\r\n\r\n"...)
}

func appendVia(b []byte, minor int, name string) []byte {
	b = append(b, "Via: 1."...)
	b = append(b, '0'+byte(minor), ' ')
	return append(append(b, name...), "\r\n"...)
}

func appendStatusLine(b []byte, r *http1.Response) []byte {
	return append(append(appendStatus(b, r.Status), r.Reason...), "\r\n"...)
}

func appendStatus(b []byte, status int) []byte {
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	return append(b, ' ')
}

// appendPrintable appends at most n bytes of s; what is not printable ASCII
// becomes '?'.
func appendPrintable(b []byte, s string, n int) []byte {
	for i := 0; i < min(len(s), n); i++ {
		c := s[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

// appendStructuredString appends the inside of an sf-string (RFC 8941 section
// 3.3.3).
func appendStructuredString(b []byte, s string) []byte {
	for i := 0; i < min(len(s), 4*maxPhrase); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '?')
		default:
			b = append(b, c)
		}
	}
	return b
}
