package proxy

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Bytes of a tunnel are counted while it lasts, and once.
func TestTunnelBytesAreCountedAsTheyMove(t *testing.T) {
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\nearly", rawOrigin(t, func(c *rawClient) { io.Copy(c, c.r) }))
	c.head(t)
	c.send(t, " and late")
	_, err := io.ReadFull(c.r, make([]byte, 14))
	require.NoError(t, err)
	nettest.Eventually(t, "the bytes are counted", func() bool { return g.bytes(t, "connect") == [2]float64{14, 14} })
	c.send(t, "!")
	_, err = c.r.ReadByte()
	require.NoError(t, err)
	c.Close()
	assert.Contains(t, g.lines(t, 1)[0], `"received":15,"sent":15`)
	assert.Equal(t, [2]float64{15, 15}, g.bytes(t, "connect"))
	assert.Zero(t, g.bytes(t, "forward"))
}

// bytes is what the metrics say was received from clients and sent to them.
func (g *gateway) bytes(t testing.TB, mode string) (n [2]float64) {
	families, err := g.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		i := slices.Index([]string{"sluice_client_received_bytes_total", "sluice_client_sent_bytes_total"}, f.GetName())
		for _, m := range f.GetMetric() {
			if i >= 0 && m.GetLabel()[0].GetValue() == mode {
				n[i] = m.GetCounter().GetValue()
			}
		}
	}
	return n
}

var loopback = netip.MustParseAddr("127.0.0.1")

func TestConnectVerdicts(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c, c.r) })
	port := portOf(echo)
	known := names{
		"in.test":       {loopback},
		"other.test":    {loopback},
		"mixed.test":    {netip.MustParseAddr("127.0.0.9"), loopback},
		"private.test":  {netip.MustParseAddr("127.0.0.9")},
		"example.com":   {loopback},
		"a.example.com": {loopback},
	}
	g := start(t, "!*.example.com\n!127.0.0.9\n127.0.0.0/8:"+port+"\n!169.254.0.0/15\n*\n", known, nil)
	tests := []struct {
		want   string // the status line
		target string
		error  string // of Proxy-Status
	}{
		{"HTTP/1.1 200 Connection established", "in.test:" + port, ""},
		{"HTTP/1.1 200 Connection established", "IN.test.:" + port, ""},
		{"HTTP/1.1 200 Connection established", "127.0.0.1:" + port, ""},
		{"HTTP/1.1 200 Connection established", "[::ffff:127.0.0.1]:" + port, ""},
		{"HTTP/1.1 200 Connection established", "mixed.test:" + port, ""}, // by the allowed address only
		{"HTTP/1.1 403 Egress denied: line 1 !*.example.com", "example.com:" + port, "http_request_denied"},
		{"HTTP/1.1 403 Egress denied: line 1 !*.example.com", "A.EXAMPLE.com.:" + port, "http_request_denied"},
		{"HTTP/1.1 403 Egress denied: line 2 !127.0.0.9", "private.test:" + port, "destination_ip_prohibited"},
		{"HTTP/1.1 403 Egress denied: line 2 !127.0.0.9", "127.0.0.9:" + port, "destination_ip_prohibited"},
		{"HTTP/1.1 403 Egress denied: guard loopback", "127.0.0.1:1", "destination_ip_prohibited"},
		{"HTTP/1.1 403 Egress denied: line 4 !169.254.0.0/15", "169.254.169.254:80", "destination_ip_prohibited"},
		{"HTTP/1.1 502 Bad Gateway: look up nowhere.test: no such name (NXDOMAIN)", "nowhere.test:443", "dns_error"},
	}
	for _, tt := range tests {
		c := g.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", tt.target, tt.target)
		line, err := c.r.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, tt.want+"\r\n", line, tt.target)
		head := line + c.head(t)
		if tt.error == "" {
			c.send(t, "ping")
			got := make([]byte, 4)
			_, err := io.ReadFull(c.r, got)
			require.NoError(t, err)
			assert.Equal(t, "ping", string(got))
		} else {
			assert.Contains(t, head, "\r\nProxy-Status: sluice; error="+tt.error+"; details=\"")
		}
		c.Close()
	}
	for _, name := range []string{"example.com", "a.example.com"} {
		assert.False(t, g.wasAsked(name), "%s is denied whatever it resolves to, and was looked up", name)
	}
}

func TestConnectBadTargets(t *testing.T) {
	g := start(t, "*", nil, nil)
	for _, target := range []string{"example.com", "example.com:", "example.com:0", "example.com:65536", "example.com:http",
		"user@example.com:443", "user:pw@example.com:443", "127.1:80", "0177.0.0.1:80", "0x7f000001:80", "2130706433:80",
		"10.0.0.256:80", "[fe80::1%25eth0]:80", "[::1:80", "::1:80", "exa mple.com:80", "m\xc3\xbcller.example:80", ":80", "a..b:80"} {
		c := g.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		res, body := c.response(t, "GET")
		assert.Equal(t, 400, res.StatusCode, "%s: %s", target, body)
		c.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	assert.Empty(t, g.asked, "no bad target reaches the resolver")
}

// Whatever the client sends behind the head, before it has seen the 200, reaches
// the server first.
func TestConnectEarlyBytes(t *testing.T) {
	got := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		b, _ := io.ReadAll(c.r)
		got <- string(b)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.0\r\n\r\nearly ", server) // HTTP/1.0, no Host: Python up to 3.11
	assert.Equal(t, string(established), c.head(t))
	c.send(t, "late")
	require.NoError(t, c.CloseWrite())
	assert.Equal(t, "early late", <-got)
	c.closed(t)
}

// Each direction closes on its own.
func TestConnectHalfClose(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		b, _ := io.ReadAll(c.r)
		c.Write([]byte("got " + string(b)))
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
	c.head(t)
	c.send(t, "question")
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "got question", string(b))
	line := g.lines(t, 1)[0]
	assert.Contains(t, line, `"method":"CONNECT"`)
	assert.Contains(t, line, `"target":"`+server+`"`)
	assert.Contains(t, line, `"verdict":"allow","reason":"line 1 127.0.0.0/8","line":1,"address":"`+server+`","source":"127.0.0.1","status":200,"received":8,"sent":12,`)
	assert.NotContains(t, line, "error")
}

func TestConnectResetTravels(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		c.r.ReadByte()
		c.SetLinger(0)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
	c.head(t)
	c.send(t, "x")
	_, err := c.r.ReadByte()
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.Contains(t, g.lines(t, 1)[0], `"error":"connection_terminated"`)
}

func TestConnectBulk(t *testing.T) {
	const size = 32 << 20
	server := rawOrigin(t, func(c *rawClient) {
		io.Copy(c, c.r)
		c.CloseWrite()
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
	c.head(t)
	sent := sha256.New()
	go func() {
		io.Copy(io.MultiWriter(c.TCPConn, sent), io.LimitReader(rand.Reader, size))
		c.CloseWrite()
	}()
	got := sha256.New()
	n, err := io.Copy(got, c.r)
	require.NoError(t, err)
	assert.EqualValues(t, size, n)
	assert.Equal(t, sent.Sum(nil), got.Sum(nil))
}

func TestConnectFailures(t *testing.T) {
	g := start(t, allowLoopback+"*", nil, func(o *Options) { o.ConnectTimeout = 200 * time.Millisecond })
	c := g.dial(t)
	c.send(t, "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
	res, body := c.response(t, "GET")
	assert.Equal(t, 502, res.StatusCode)
	assert.Equal(t, "502 Bad Gateway: connect to 127.0.0.1:1: connection refused", res.Status)
	assert.Contains(t, res.Header.Get("Proxy-Status"), "sluice; error=connection_refused; ")
	assert.Contains(t, body, "connection refused")
	// The connection carries on: nothing was ambiguous.
	c.send(t, "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
	res, _ = c.response(t, "GET")
	assert.Equal(t, 502, res.StatusCode)
}

// Each request is judged by the rules in force when it came; a tunnel that is
// open stays.
func TestReloadLeavesTunnels(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c, c.r) })
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
	c.head(t)
	g.rules(t, "!*.example.com")
	c.send(t, "ping")
	got := make([]byte, 4)
	_, err := io.ReadFull(c.r, got)
	require.NoError(t, err)
	other := g.dial(t)
	other.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
	res, _ := other.response(t, "GET")
	assert.Equal(t, "403 Egress denied: no rule allows it", res.Status)
}

func TestIdleTunnelEnds(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) { io.Copy(io.Discard, c.r) })
	g := start(t, allowLoopback, nil, func(o *Options) { o.IdleTimeout = 100 * time.Millisecond })
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
	c.head(t)
	c.closed(t)
	assert.Contains(t, g.lines(t, 1)[0], `"error":"connection_read_timeout"`)
}

// With no policy at all, everything is denied.
func TestNoPolicyDenies(t *testing.T) {
	g := start(t, "*", nil, nil)
	g.SetGeneration(nil)
	c := g.dial(t)
	c.send(t, "CONNECT example.com:443 HTTP/1.1\r\n\r\n")
	res, _ := c.response(t, "GET")
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
}
