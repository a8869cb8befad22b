package accesslog

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// sample is a record with everything in it.
func sample(method, target, agent string) *Request {
	r := &Request{
		Common: Common{
			Start: time.Date(2026, 11, 21, 4, 5, 6, 7008000, time.UTC), Client: netip.MustParseAddrPort("10.1.2.3:4567"),
			Addr: netip.MustParseAddrPort("192.0.2.34:80"), Source: netip.MustParseAddr("198.51.100.9"),
			Received: 5, Sent: 1234, Connect: 20 * time.Millisecond, Total: 1042 * time.Millisecond,
		},
		ID: 0xabc, Mode: metrics.Forward, Minor: 1, Judged: true, Status: 200,
		Decision: acl.Decision{Verdict: acl.Allow, Kind: acl.ReasonRule, Rule: 2, Line: 3, Text: "*.example.com"},
		Resolve:  1500 * time.Microsecond, FirstByte: 45 * time.Millisecond,
	}
	put := func(s string) span {
		from := len(r.Text)
		r.Text = append(r.Text, s...)
		return span{uint32(from), uint32(len(r.Text))}
	}
	r.method, r.target, r.userAgent, r.contentType = put(method), put(target), put(agent), put("text/html; charset=utf-8")
	return r
}

func TestLogFormats(t *testing.T) {
	allowed := sample("GET", "http://a.example.com/x", `curl/8 "x"`)
	denied := sample("CONNECT", "b.test:443", "")
	denied.Decision = acl.Decision{}
	denied.Addr, denied.Source, denied.Status, denied.Error, denied.Mode = netip.AddrPort{}, netip.Addr{}, 403, "http_request_denied", metrics.Connect
	several := sample("GET", "http://a.example.com/x", "")
	several.Decision.Source = "/etc/\"b\""
	parented := sample("CONNECT", "b.test:443", "")
	parented.Parent = policy.NewParent("https://p.test:3129", acl.HostFromAddr(netip.MustParseAddr("192.0.2.9")), 3129, nil, "", "Basic s3cr3t")
	byName := sample("CONNECT", "b.test:443", "")
	byName.Parent, byName.Addr = parented.Parent, netip.AddrPortFrom(netip.Addr{}, 443)
	hostile := sample("GET", "http://a/\"\n\\\xff\x7f\u00fc", "a\x00\"")
	tests := []struct {
		format string
		r      *Request
		want   string
	}{
		{"json", allowed, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"GET","target":"http://a.example.com/x","verdict":"allow","reason":"line 3 *.example.com","line":3,"address":"192.0.2.34:80","source":"198.51.100.9","status":200,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000}`},
		{"json", several, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"GET","target":"http://a.example.com/x","verdict":"allow","reason":"line 3 of /etc/\"b\" *.example.com","file":"/etc/\"b\"","line":3,"address":"192.0.2.34:80","source":"198.51.100.9","status":200,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000}`},
		{"json", denied, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"CONNECT","target":"b.test:443","verdict":"deny","reason":"default","line":0,"status":403,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000,"error":"http_request_denied"}`},
		{"json", parented, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"CONNECT","target":"b.test:443","verdict":"allow","reason":"line 3 *.example.com","line":3,"address":"192.0.2.34:80","source":"198.51.100.9","parent":"https://p.test:3129","status":200,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000}`},
		{"json", byName, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"CONNECT","target":"b.test:443","verdict":"allow","reason":"line 3 *.example.com","line":3,"source":"198.51.100.9","parent":"https://p.test:3129","status":200,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000}`},
		{"squid", byName, `1795233907.049   1042 10.1.2.3 TCP_MISS/200 1234 CONNECT b.test:443 - FIRSTUP_PARENT/192.0.2.9 text/html`},
		{"squid", allowed, `1795233907.049   1042 10.1.2.3 TCP_MISS/200 1234 GET http://a.example.com/x - HIER_DIRECT/192.0.2.34 text/html`},
		{"squid", denied, `1795233907.049   1042 10.1.2.3 TCP_DENIED/403 1234 CONNECT b.test:443 - HIER_NONE/- text/html`},
		{"squid", hostile, `1795233907.049   1042 10.1.2.3 TCP_MISS/200 1234 GET http://a/%22%0A%5C%FF%7F%C3%BC - HIER_DIRECT/192.0.2.34 text/html`},
		{"combined", allowed, `10.1.2.3 - - [21/Nov/2026:04:05:06 +0000] "GET http://a.example.com/x HTTP/1.1" 200 1234 "-" "curl/8 \"x\""`},
		{"combined", hostile, `10.1.2.3 - - [21/Nov/2026:04:05:06 +0000] "GET http://a/%22%0A%5C%FF%7F%C3%BC HTTP/1.1" 200 1234 "-" "a\x00\""`},
	}
	for _, tt := range tests {
		got := string(Formats[tt.format](nil, tt.r))
		assert.Equal(t, tt.want+"\n", got, tt.format)
	}
	var line map[string]any
	require.NoError(t, json.Unmarshal(JSON(nil, hostile), &line))
	assert.Equal(t, "http://a/\"\n\\\ufffd\x7f\u00fc", line["target"])
}

// Every line that was written is there after Close, whole.
func TestLogLosesNothing(t *testing.T) {
	var out bytes.Buffer // of one writer; read when that has ended
	lines := linelog.New(&out, linelog.Options{Lost: func(int) { t.Error("lost") }})
	l := New(lines, JSON)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				l.Write(sample("GET", "http://a.test/", "x"))
			}
		})
	}
	wg.Wait()
	assert.Zero(t, lines.Close(time.Minute))
	all := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	assert.Len(t, all, 16000)
	for _, line := range all {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func TestLogAllocatesNothing(t *testing.T) {
	r := sample("GET", "http://a.example.com/x", "curl/8")
	b := make([]byte, 0, 4096)
	for name, format := range Formats {
		if name == "squid" {
			continue // the elapsed time is formatted aside
		}
		assert.Zero(t, testing.AllocsPerRun(100, func() { b = format(b[:0], r) }), name)
	}
}

func BenchmarkLogJSON(b *testing.B) {
	r := sample("GET", "http://a.example.com/x", "curl/8")
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = JSON(buf[:0], r)
	}
}
