package proxy

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
)

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
		o.Access = accesslog.New(lines, accesslog.Squid)
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
		for _, onLoop := range []bool{false, true} {
			out := new(logBuffer)
			g := start(t, tt.rules, names{"home.test": {loopback}}, func(o *Options) {
				lines := linelog.New(out, linelog.Options{})
				t.Cleanup(func() { lines.Close(time.Minute) })
				o.Access = accesslog.New(lines, func(b []byte, r *accesslog.Request) []byte {
					return accesslog.Combined(accesslog.Squid(accesslog.JSON(b, r), r), r)
				})
				if !onLoop {
					o.Gate.Known, o.Gate.Begin = nil, nil
				}
			})
			for i, request := range []string{"CONNECT %s HTTP/1.1\r\n\r\n", "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
				c := g.dial(t)
				c.send(t, request, tt.target)
				res, body := c.response(t, "GET")
				assert.Equal(t, tt.status, res.StatusCode)
				assert.Equal(t, tt.verdict == "deny", strings.Contains(res.Status+body, "denied"), body)
				nettest.Eventually(t, "all is logged", func() bool { return strings.Count(out.String(), "\n") == 3*(i+1) })
				lines := strings.Split(out.String(), "\n")[3*i:]
				assert.Contains(t, lines[0], `"verdict":"`+tt.verdict+`","reason":"`+tt.reason+`"`)
				assert.Contains(t, lines[1], " "+tt.squid+" ")
				assert.Contains(t, lines[2], ` HTTP/1.1" `+strconv.Itoa(tt.status)+" ")
			}
			assert.EqualValues(t, 2, g.counted(t, "sluice_requests_total", "verdict="+tt.metricVerdict, "reason="+tt.metricWhy))
		}
	}
}
