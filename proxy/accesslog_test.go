package proxy

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/metrics"
)

// sample is a record with everything in it.
func sample(method, target, agent string) *Record {
	r := &Record{
		Start: time.Date(2026, 11, 21, 4, 5, 6, 7008000, time.UTC), ID: 0xabc, Client: netip.MustParseAddrPort("10.1.2.3:4567"),
		Mode: metrics.Forward, Minor: 1, Judged: true,
		Decision: acl.Decision{Verdict: acl.Allow, Kind: acl.ReasonRule, Rule: 2, Line: 3, Text: "*.example.com"},
		Addr:     netip.MustParseAddrPort("192.0.2.34:80"), Source: netip.MustParseAddr("198.51.100.9"),
		Status: 200, Received: 5, Sent: 1234,
		Resolve: 1500 * time.Microsecond, Connect: 20 * time.Millisecond, FirstByte: 45 * time.Millisecond, Total: 1042 * time.Millisecond,
	}
	put := func(s string) span {
		from := len(r.text)
		r.text = append(r.text, s...)
		return span{uint32(from), uint32(len(r.text))}
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
	hostile := sample("GET", "http://a/\"\n\\\xff\x7f\u00fc", "a\x00\"")
	tests := []struct {
		format string
		r      *Record
		want   string
	}{
		{"json", allowed, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"GET","target":"http://a.example.com/x","verdict":"allow","reason":"line 3 *.example.com","line":3,"address":"192.0.2.34:80","source":"198.51.100.9","status":200,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000}`},
		{"json", several, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"GET","target":"http://a.example.com/x","verdict":"allow","reason":"line 3 of /etc/\"b\" *.example.com","file":"/etc/\"b\"","line":3,"address":"192.0.2.34:80","source":"198.51.100.9","status":200,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000}`},
		{"json", denied, `{"time":"2026-11-21T04:05:06.007008Z","id":"0000000000000abc","client":"10.1.2.3:4567","method":"CONNECT","target":"b.test:443","verdict":"deny","reason":"default","line":0,"status":403,"received":5,"sent":1234,"resolve_ms":1.500,"connect_ms":20.000,"first_byte_ms":45.000,"total_ms":1042.000,"error":"http_request_denied"}`},
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
	require.NoError(t, json.Unmarshal(appendJSON(nil, hostile), &line))
	assert.Equal(t, "http://a/\"\n\\\ufffd\x7f\u00fc", line["target"])
}

// Every line that was written is there after Close, whole.
func TestLogLosesNothing(t *testing.T) {
	out := new(logBuffer)
	lines := linelog.New(out, linelog.Options{Lost: func(int) { t.Error("lost") }})
	l := NewAccessLog(lines, appendJSON)
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
		buf = appendJSON(buf[:0], r)
	}
}

// What the line says of the heads is copied before the body takes their place.
func TestLogOutlivesBuffers(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; x=y\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 100 {
			c.send(t, "3e8\r\n%s\r\n", strings.Repeat("z", 1000))
		}
		c.send(t, "0\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, func(o *Options) {
		out := new(logBuffer)
		lines := linelog.New(out, linelog.Options{})
		o.Access = NewAccessLog(lines, appendSquid)
		t.Cleanup(func() {
			lines.Close(time.Minute)
			assert.Contains(t, out.String(), " TCP_MISS/200 100000 GET http://"+server+"/ - HIER_DIRECT/127.0.0.1 text/plain\n")
		})
	})
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
	_, body := c.response(t, "GET")
	assert.Len(t, body, 100000)
}

// Only what the policy denies is a denial, in every format and in the metrics: not a name
// that does not resolve, nor an address that does not answer.
func TestFailureIsNoDenial(t *testing.T) {
	dead := rawOrigin(t, func(*rawClient) {}) // of another address
	tests := []struct {
		rules, target            string
		verdict, reason, squid   string
		status                   int
		metricVerdict, metricWhy string
	}{
		{"*", "nowhere.test:443", "allow", "line 1 *", "TCP_MISS/502", 502, "allow", "rule"},
		{"!10.0.0.0/8\n*", "nowhere.test:443", "allow", "line 2 *", "TCP_MISS/502", 502, "allow", "rule"},
		{"*.test", "nowhere.test:443", "allow", "line 1 *.test", "TCP_MISS/502", 502, "allow", "rule"},
		{"127.0.0.0/8", "nowhere.test:443", "allow", "default", "TCP_MISS/502", 502, "allow", "default"},
		{"127.0.0.0/8", "127.0.0.9:" + portOf(dead), "allow", "line 1 127.0.0.0/8", "TCP_MISS/502", 502, "allow", "rule"},
		{"!*.test\n*", "nowhere.test:443", "deny", "line 1 !*.test", "TCP_DENIED/403", 403, "deny", "rule"},
		{"!127.0.0.0/8\n*", "home.test:443", "deny", "line 1 !127.0.0.0/8", "TCP_DENIED/403", 403, "deny", "rule"},
	}
	for _, tt := range tests {
		for _, attended := range []bool{false, true} {
			out := new(logBuffer)
			g := start(t, tt.rules, names{"home.test": {loopback}}, func(o *Options) {
				lines := linelog.New(out, linelog.Options{})
				t.Cleanup(func() { lines.Close(time.Minute) })
				o.Access = NewAccessLog(lines, func(b []byte, r *Record) []byte {
					return appendCombined(appendSquid(appendJSON(b, r), r), r)
				})
				if !attended {
					o.Gate.Known, o.Gate.Begin = nil, nil
				}
			})
			for i, request := range []string{"CONNECT %s HTTP/1.1\r\n\r\n", "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
				c := g.dial(t)
				c.send(t, request, tt.target)
				res, body := c.response(t, "GET")
				assert.Equal(t, tt.status, res.StatusCode)
				assert.Equal(t, tt.verdict == "deny", strings.Contains(res.Status+body, "denied"), body)
				require.Eventually(t, func() bool { return strings.Count(out.String(), "\n") == 3*(i+1) }, 10*time.Second, time.Millisecond)
				lines := strings.Split(out.String(), "\n")[3*i:]
				assert.Contains(t, lines[0], `"verdict":"`+tt.verdict+`","reason":"`+tt.reason+`"`)
				assert.Contains(t, lines[1], " "+tt.squid+" ")
				assert.Contains(t, lines[2], ` HTTP/1.1" `+strconv.Itoa(tt.status)+" ")
			}
			assert.EqualValues(t, 2, g.counted(t, "sluice_requests_total", "verdict="+tt.metricVerdict, "reason="+tt.metricWhy))
		}
	}
}
