package proxy

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tcp"
)

// unwanted is a client whom only a check of the test's own refuses.
var unwanted = netip.MustParseAddr("127.0.0.66")

func refuseUnwanted(r *outbound.Request, t *outbound.Ticket) error {
	if r.Client != unwanted {
		return nil
	}
	t.Decision = acl.Decision{}
	return &outbound.Error{Kind: outbound.Denied}
}

func dialFrom(t testing.TB, from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", to)
	if err == nil {
		t.Cleanup(func() { c.Close() })
		err = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return c, err
}

// A check that is written once holds for whatever comes through any front door, on the loop
// and on a goroutine: nothing else admits.
func TestOneAdmission(t *testing.T) {
	var reached atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		reached.Add(1)
		io.Copy(io.Discard, c.r)
	})
	g := start(t, "!denied.test\n"+allowLoopback, nil, func(o *Options) { o.Gate.Checks = []outbound.Check{refuseUnwanted} })
	requests := map[string]string{
		"GET":            "GET http://@/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"HEAD":           "HEAD http://@/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST":           "POST http://@/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
		"chunked":        "POST http://@/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"OPTIONS":        "OPTIONS http://@/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"TRACE":          "TRACE http://@/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n",
		"CONNECT":        "CONNECT @ HTTP/1.1\r\n\r\n",
		"early":          "CONNECT @ HTTP/1.1\r\n\r\nearly",
		"Upgrade":        "GET http://@/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"absolute https": "GET https://@/ HTTP/1.1\r\nHost: x\r\n\r\n",
	}
	for name, request := range requests {
		request = strings.ReplaceAll(request, "@", server)
		for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
			t.Run(name+" on the "+path, func(t *testing.T) {
				before := reached.Load()
				c, err := dialFrom(t, unwanted.String(), g.Addr)
				require.NoError(t, err)
				_, err = io.WriteString(c, ahead+request)
				require.NoError(t, err)
				require.NoError(t, c.(*net.TCPConn).CloseWrite())
				all, err := io.ReadAll(c)
				require.NoError(t, err)
				assert.Equal(t, 1+strings.Count(ahead, "HTTP/1.1"), strings.Count(string(all), "HTTP/1.1 403 Egress denied"), "%s", all)
				assert.Equal(t, before, reached.Load())
			})
		}
	}
	// The same for a client that the check lets through.
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
	require.Contains(t, c.head(t), " 200 ")
	nettest.Eventually(t, "the server is reached", func() bool { return reached.Load() == 1 })

	for path, processors := range map[string]int{"loop": 1, "goroutine": runtime.GOMAXPROCS(0)} {
		t.Run("TCP on the "+path, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			s := tcp.New(tcp.Options{Gate: g.Gate, TTL: func(string) time.Duration { return time.Minute },
				Metrics: metrics.NewTCP(prometheus.NewRegistry()), Log: g.Log})
			defer s.Shutdown(t.Context())
			target, err := acl.ParseTarget(server)
			require.NoError(t, err)
			require.NoError(t, s.Apply(tcp.Config{
				Generation: policy.New(g.tenant), ConnectTimeout: 10 * time.Second, DNSTimeout: 10 * time.Second,
				Listeners: []tcp.Listener{{Label: "p", Listen: "127.0.0.1:0", Destinations: []acl.Target{target}}},
			}))
			nettest.Eventually(t, "it is ready", s.Ready)
			addr := s.Status()[0].Addr.String()
			before := reached.Load()
			refused, err := dialFrom(t, unwanted.String(), addr)
			if err == nil { // and no reset yet
				_, err = io.ReadAll(refused)
			}
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			assert.Equal(t, before, reached.Load())
			wanted, err := dialFrom(t, "127.0.0.1", addr)
			require.NoError(t, err)
			nettest.Eventually(t, "the server is reached", func() bool { return reached.Load() == before+1 })
			wanted.Close()
		})
	}
}
