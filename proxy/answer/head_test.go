package answer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

var limits = http1.Limits{MaxHead: 64 << 10, MaxFields: 100}

// request reads a request.
func request(t require.TestingT, head string) *http1.Request {
	r := new(http1.Request)
	n, err := r.Parse([]byte(head), limits)
	require.NoError(t, err)
	require.Equal(t, len(head), n)
	return r
}

// response reads a response, which has to begin b, and returns what is behind its head.
func response(t require.TestingT, b []byte, toHead bool) (*http1.Response, string) {
	r := new(http1.Response)
	n, err := r.Parse(b, toHead, limits)
	require.NoError(t, err, "%q", b)
	return r, string(b[n:])
}

// fields are the lines of a head's fields.
func fields(h *http1.Head) (all []string) {
	for i := range h.Fields {
		all = append(all, string(h.Fields[i].Name)+": "+string(h.Fields[i].Value))
	}
	return all
}

var now = time.Date(2026, 11, 5, 3, 4, 5, 0, time.FixedZone("", 3600))

// Each answer of the proxy's own is one message, which says what is the matter to a program
// (status, Proxy-Status), to a person (page) and of the connection.
func TestOwnAnswers(t *testing.T) {
	host, err := acl.ParseTarget("192.0.2.1:443")
	require.NoError(t, err)
	name, err := acl.ParseTarget("a.test:443")
	require.NoError(t, err)
	rule := acl.Decision{Verdict: acl.Deny, Kind: acl.ReasonRule, Rule: 1, Line: 3, Text: "!*.test"}
	byAddr := rule
	byAddr.ByAddr = true
	const noRule = "Egress denied: no rule allows it"
	tests := []struct {
		name           string
		own            answer.Own
		status         int
		phrase, class  string
		details, onWeb string // in Proxy-Status; on the page
	}{
		{"by default", answer.Denied(acl.Decision{}, name.Host, false), 403, noRule, answer.ClassDenied, noRule, "no rule allows it"},
		{"an address by default", answer.Denied(acl.Decision{}, host.Host, false), 403, noRule, answer.ClassDenied, noRule, "Rules for names never match an address."},
		{"by a rule", answer.Denied(rule, name.Host, false), 403, "Egress denied: line 3 !*.test", answer.ClassDenied, "Egress denied: line 3 !*.test", "line 3 !*.test"},
		{"by a hidden rule", answer.Denied(rule, name.Host, true), 403, "Egress denied: line 3", answer.ClassDenied, "Egress denied: line 3", "line 3\n"},
		{"by address", answer.Denied(byAddr, name.Host, true), 403, "Egress denied: line 3", answer.ClassProhibited, "Egress denied: line 3", "line 3\n"},
		{"bad request", answer.BadRequest(http1.ErrHeadTooLarge), 431, "Request Header Fields Too Large: head larger than the limit", answer.ClassRequest, "head larger than the limit", "head larger than the limit"},
		{"large answer", answer.BadAnswer(http1.ErrHeadTooLarge, limits), 502, "Bad Gateway: the server's answer: head larger than 65536 bytes (--max-answer-head)", answer.ClassProtocol, "the server's answer: head larger than 65536 bytes (--max-answer-head)", "--max-answer-head"},
		{"fields of an answer", answer.BadAnswer(http1.ErrTooManyFields, limits), 502, "Bad Gateway: the server's answer: more than 100 header fields (--max-answer-fields)", answer.ClassProtocol, "the server's answer: more than 100 header fields (--max-answer-fields)", "--max-answer-fields"},
		{"interim answers", answer.EndlessInterim(limits), 502, "Bad Gateway: the server's answer: interim answers (1xx) of more than 65536 bytes (--max-answer-head)", answer.ClassProtocol, "the server's answer: interim answers (1xx) of more than 65536 bytes (--max-answer-head)", "(1xx)"},
		{"slow head", answer.SlowHead(time.Second), 408, "Request Timeout: no whole request head within 1s", answer.ClassRequest, "no whole request head within 1s", "within 1s"},
		{"slow body", answer.SlowBody(), 408, "Request Timeout: the request body came too slowly", answer.ClassRequest, "the request body came too slowly", "too slowly"},
		{"no web server", answer.NoOrigin("10.0.0.1:3128"), 400, "Bad Request: this is a proxy, not a web server", answer.ClassRequest, "this is a proxy, not a web server", "curl -x http://10.0.0.1:3128 "},
		{"full", answer.Full(), 503, "Service Unavailable: the proxy is at its limit of client connections", answer.ClassLimit, "the proxy is at its limit of client connections", "limit"},
		{"full for a client", answer.FullForClient(), 429, "Too Many Requests: too many connections from this client", answer.ClassRequest, "too many connections from this client", "too many"},
		{"options", answer.Options(), 200, "OK", "", "", ""},
		{"no name", answer.Failed(answer.ClassDNSError, "NXDOMAIN"), 502, "Bad Gateway: NXDOMAIN", answer.ClassDNSError, "NXDOMAIN", "NXDOMAIN"},
		{"slow DNS", answer.Failed(answer.ClassDNSTimeout, "x"), 504, "Gateway Timeout: x", answer.ClassDNSTimeout, "x", "x"},
		{"no descriptors", answer.Failed(answer.ClassLimit, "x"), 503, "Service Unavailable: x", answer.ClassLimit, "x", "x"},
		{"a loop", answer.Failed(answer.ClassLoop, "x"), 502, "Bad Gateway: x", answer.ClassLoop, "x", "x"},
		{"no target", answer.Failed(answer.ClassRequest, "x"), 400, "Bad Request: x", answer.ClassRequest, "x", "x"},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			for _, keep := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, keep %v", tt.name, method, keep), func(t *testing.T) {
					to := answer.To{Req: request(t, method+" http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"), ID: 0xabc, Now: now, Contact: "net-team", Keep: keep}
					b, n := tt.own.Append([]byte("before"), to)
					r, page := response(t, b[len("before"):], method == "HEAD")
					assert.Equal(t, tt.status, r.Status)
					assert.Equal(t, tt.phrase, string(r.Reason))
					assert.Equal(t, keep, r.KeepAlive)
					assert.Len(t, page, n)
					want := []string{"Date: Thu, 05 Nov 2026 02:04:05 GMT", "X-Request-Id: 0000000000000abc", "Content-Type: text/plain; charset=utf-8",
						"Cache-Control: no-store", "Vary: Accept", "X-Content-Type-Options: nosniff", map[bool]string{false: "Connection: close", true: "Connection: keep-alive"}[keep]}
					if tt.class != "" {
						want = append(want, "Proxy-Status: sluice; error="+tt.class+`; details="`+tt.details+`"`)
					} else {
						want = append(want, "Allow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE")
					}
					if method == "HEAD" {
						assert.Empty(t, page)
						assert.Len(t, r.Fields, len(want)+1, "and Content-Length")
						assert.Subset(t, fields(&r.Head), want)
						return
					}
					assert.ElementsMatch(t, append(want, fmt.Sprintf("Content-Length: %d", n)), fields(&r.Head))
					if tt.onWeb != "" {
						assert.Contains(t, page, tt.onWeb)
						assert.Contains(t, page, "Asked for:    GET http://a.test/\n")
						assert.Contains(t, page, "Whom to ask:  net-team\n")
					}
				})
			}
		}
	}
}

// TRACE gives back the request, less its secrets.
// A gRPC call is told in a trailer section alone, as a stream, and nowhere else; nothing else is.
func TestOwnAnswersToCalls(t *testing.T) {
	own := answer.Own{Status: 403, Class: answer.ClassDenied, Phrase: "Egress denied: 100 % é\n", Advice: "Ask anew."}
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC; a=b": true,
		"application/grpc-web": false, "application/json": false, "": false,
	} {
		for _, stream := range []bool{true, false} {
			head := "POST /a.B/C HTTP/1.1\r\nHost: a.test\r\n"
			if kind != "" {
				head += "Content-Type: " + kind + "\r\n"
			}
			out, n := own.Append(nil, answer.To{Req: request(t, head+"\r\n"), Now: now, ID: 0xabc, Contact: "net", Stream: stream, Keep: true})
			r, body := response(t, out, false)
			if !want || !stream {
				assert.Equal(t, 403, r.Status, kind)
				assert.Contains(t, body, "Ask anew.")
				assert.NotContains(t, strings.Join(fields(&r.Head), "\n"), "Grpc")
				continue
			}
			assert.Equal(t, 200, r.Status)
			assert.Empty(t, body)
			assert.Zero(t, n)
			assert.Equal(t, []string{"Grpc-Status: 7", "Grpc-Message: Egress denied: 100 %25 %C3%A9%0A. Ask anew. net (request id 0000000000000abc)"}, fields(&r.Head)[:2])
			assert.Subset(t, fields(&r.Head), []string{"Content-Type: application/grpc", "Content-Length: 0"})
		}
	}
	for status, want := range map[int]string{400: "13", 401: "16", 403: "7", 404: "12", 413: "8", 429: "14", 502: "14", 503: "14", 504: "14", 408: "2"} {
		out, _ := (&answer.Own{Status: status}).Append(nil, answer.To{Req: request(t, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc\r\n\r\n"), Now: now, Stream: true})
		r, _ := response(t, out, false)
		assert.Equal(t, "Grpc-Status: "+want, fields(&r.Head)[0])
	}
}

func TestTrace(t *testing.T) {
	to := answer.To{Now: now, Req: request(t, "TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\ncookie: c\r\nAuthorization: a\r\nProxy-Authorization: p\r\nX: y\r\n\r\n")}
	b, n := answer.AppendTrace(nil, to)
	r, body := response(t, b, false)
	assert.Equal(t, 200, r.Status)
	assert.Equal(t, "message/http", string(r.Get(http1.ContentType)))
	assert.EqualValues(t, n, r.Length)
	assert.Equal(t, "TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\nX: y\r\n", body)
}

// Whatever an answer of the proxy's own is to say, to whatever request, it is one message with
// the fields that it always has: nothing of that can end a line or the head.
func TestOwnAnswersHoldTogether(t *testing.T) {
	hostile := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("\r\n\x00\t\"\\<>&:; aé\x7f"))),
		rapid.Just("x\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), rapid.Just(strings.Repeat("\"\n", 5000)))
	rapid.Check(t, func(t *rapid.T) {
		own := answer.Own{
			Status: rapid.SampledFrom([]int{400, 403, 502}).Draw(t, "status"), Class: answer.ClassDenied, Phrase: hostile.Draw(t, "phrase"),
			Details: hostile.Draw(t, "details"), Advice: hostile.Draw(t, "advice"), DecidedBy: hostile.Draw(t, "decided by"),
		}
		to := answer.To{Req: new(http1.Request), Now: now, Contact: hostile.Draw(t, "contact"), Keep: true}
		to.Req.Method, to.Req.Target = []byte("GET"), []byte(hostile.Draw(t, "target"))
		kind := rapid.SampledFrom([]string{"text/html", "text/plain", "application/json"}).Draw(t, "kind")
		to.Req.Fields = []http1.Field{{ID: http1.Accept, Value: []byte(kind)}}
		b, n := own.Append(nil, to)
		r, page := response(t, b, false)
		require.Equal(t, http1.Length, r.Framing)
		require.EqualValues(t, n, r.Length)
		require.Len(t, page, n)
		require.LessOrEqual(t, len(r.Reason), 200)
		var names []string
		for i := range r.Fields {
			names = append(names, string(r.Fields[i].Name))
		}
		require.Equal(t, []string{"Date", "Proxy-Status", "X-Request-Id", "Content-Type", "Content-Length", "Cache-Control", "Vary",
			"X-Content-Type-Options", "Connection"}, names)
		require.True(t, strings.HasPrefix(string(r.Get(http1.ContentType)), kind))
		if kind == "text/html" {
			require.Equal(t, 16+4*strings.Count(page, "<dt>"), strings.Count(page, "<"), "a tag more: %s", page)
		}
	})
}

// What a server has answered goes on with the fields that travel, Via, and the fields of this
// connection.
func TestForwardedHeads(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	via := "Via: 1.1 sluice-test"
	tests := []struct {
		name    string
		in      string
		f       answer.Forwarded
		framing http1.Framing
		want    []string
	}{
		{"kept", ok + "Server: x\r\nContent-Length: 2\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.Length, []string{"Server: x", "Content-Length: 2", via}},
		{"closed", ok + "Content-Length: 2\r\n\r\n", answer.Forwarded{Minor: 1}, http1.Length, []string{"Content-Length: 2", via, "Connection: close"}},
		{"kept, HTTP/1.0", ok + "Content-Length: 2\r\n\r\n", answer.Forwarded{Keep: true}, http1.Length, []string{"Content-Length: 2", via, "Connection: keep-alive"}},
		{"a server of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.Length, []string{"Content-Length: 2", "Via: 1.0 sluice-test"}},
		{"hop by hop", ok + "Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: a=b\r\nProxy-Authenticate: Basic\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\n",
			answer.Forwarded{Minor: 1, Keep: true}, http1.Length, []string{"Content-Length: 2", via}},
		{"white space before a colon", ok + "Server \t: x\r\nContent-Length : 2\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.Length, []string{"Server: x", "Content-Length: 2", via}},
		{"chunks", ok + "Transfer-Encoding: chunked\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.ChunkedEnc, []string{via, "Transfer-Encoding: chunked"}},
		{"chunks undone", ok + "Transfer-Encoding: chunked\r\n\r\n", answer.Forwarded{Dechunk: true}, http1.UntilClose, []string{via, "Connection: close"}},
		{"until it is closed", ok + "\r\n", answer.Forwarded{Minor: 1}, http1.UntilClose, []string{via, "Connection: close"}},
		{"204", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.NoBody, []string{via}},
		{"304", "HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.NoBody, []string{"Content-Length: 5", via}},
		{"NTLM", "HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.Length,
			[]string{"WWW-Authenticate: NTLM", "Content-Length: 2", via, "Proxy-Support: Session-Based-Authentication", "Connection: Proxy-Support"}},
		{"NTLM, closed", "HTTP/1.1 401 Who\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 2\r\n\r\n", answer.Forwarded{Minor: 1}, http1.Length,
			[]string{"WWW-Authenticate: Negotiate", "Content-Length: 2", via, "Proxy-Support: Session-Based-Authentication", "Connection: close, Proxy-Support"}},
		{"NTLM is done", ok + "WWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\n", answer.Forwarded{Minor: 1, Keep: true}, http1.Length,
			[]string{"WWW-Authenticate: NTLM", "Content-Length: 2", via}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := response(t, []byte(tt.in), false)
			tt.f.Resp, tt.f.Name = in, "sluice-test"
			room := make([]byte, 0, 1024)
			assert.Zero(t, testing.AllocsPerRun(10, func() { room = tt.f.AppendHead(room[:0]) }))
			b := tt.f.AppendHead([]byte("before"))
			assert.Equal(t, "before"+string(room), string(b))
			out, rest := response(t, room, false)
			assert.Empty(t, rest)
			assert.Equal(t, in.Status, out.Status)
			assert.Equal(t, string(in.Reason), string(out.Reason))
			assert.Equal(t, tt.framing, out.Framing)
			assert.Equal(t, tt.want, fields(&out.Head))
		})
	}
}

// Heads of 1xx: what goes on of them, and no framing of a body.
func TestInterimHeads(t *testing.T) {
	hints, _ := response(t, []byte("HTTP/1.1 103 Hints\r\nLink: </x>\r\nContent-Length: 5\r\nConnection: X\r\nX: y\r\n\r\n"), false)
	room := make([]byte, 0, 1024)
	assert.Zero(t, testing.AllocsPerRun(10, func() { room = answer.AppendInterim(room[:0], hints) }))
	assert.Equal(t, "HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n", string(room))

	switched, _ := response(t, []byte("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\n"), false)
	assert.Zero(t, testing.AllocsPerRun(10, func() { room = answer.AppendSwitched(room[:0], switched, "sluice-test") }))
	out, rest := response(t, room, false)
	assert.Empty(t, rest)
	assert.Equal(t, 101, out.Status)
	assert.Equal(t, "websocket", string(out.Upgrade))
	assert.Equal(t, []string{"Sec-WebSocket-Accept: x", "Via: 1.1 sluice-test", "Connection: Upgrade", "Upgrade: websocket"}, fields(&out.Head))

	out, rest = response(t, []byte(answer.Established), false)
	assert.Empty(t, rest)
	assert.Equal(t, 200, out.Status)
	assert.Empty(t, out.Fields)
}

// What a server answers, with bytes anywhere that could end a line, is refused, or goes on as
// one head that reads the same again.
func TestForwardedHeadsHoldTogether(t *testing.T) {
	piece := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9 :,-]{0,8}`), rapid.SampledFrom([]string{"\r", "\n", "\r\n", "\x00", "\t", " ", "\x7f", "é", "\v", ":", "\r\n\r\n"}))
	rapid.Check(t, func(t *rapid.T) {
		hostile := func(name string) string { return strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, name), "") }
		head := "HTTP/1.1 " + rapid.SampledFrom([]string{"200 ", "204 ", "401 ", "103 ", "101 "}).Draw(t, "status") + hostile("reason") + "\r\nX" + hostile("name") + ": " + hostile("value") +
			"\r\n" + rapid.SampledFrom([]string{"Connection: Upgrade\r\nUpgrade: x", "WWW-Authenticate: NTLM ", "Content-Length: 2", "Connection: X"}).Draw(t, "field") + hostile("end") + "\r\n\r\n"
		in := new(http1.Response)
		_, err := in.Parse([]byte(head), false, limits)
		if err != nil {
			var bad *http1.Error
			require.True(t, errors.As(err, &bad), "%v", err)
			return
		}
		keep := rapid.Bool().Draw(t, "keep")
		f := answer.Forwarded{Resp: in, Name: "sluice-test", Minor: 1, Keep: keep}
		b := f.AppendHead(nil)
		switch in.Status {
		case 103:
			b = answer.AppendInterim(nil, in)
		case 101:
			if in.Upgrade == nil {
				return // which is refused
			}
			b = answer.AppendSwitched(nil, in, "sluice-test")
		}
		out, rest := response(t, b, false)
		require.Empty(t, rest)
		require.Equal(t, in.Status, out.Status)
		require.Equal(t, string(in.Reason), string(out.Reason))
		have := fields(&out.Head)
		for i := range in.Fields {
			if name := in.Fields[i].Name; name[0] == 'X' && !in.Fields[i].Dropped {
				require.Contains(t, have, string(name)+": "+string(in.Fields[i].Value))
			}
		}
		require.LessOrEqual(t, len(out.Fields), len(in.Fields)+3, "Via, Proxy-Support, Connection")
	})
}
