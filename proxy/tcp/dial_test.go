package tcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// An address that swallows everything costs one client the connect time, and the
// others nothing.
func TestSilentAddress(t *testing.T) {
	silent := netip.MustParseAddr("127.0.0.2")
	r := start(t, func(o *Options) {
		o.Gate = outbound.NewGate(
			func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{silent, netip.MustParseAddr("127.0.0.3")}, nil
			},
			func(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
				if dst.Addr() == silent {
					d, _ := ctx.Deadline()
					ctx, cancel := context.WithDeadline(ctx, d) // see Until
					defer cancel()
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return dial.TCP(ctx, source, dst)
			}, nil)
	})
	r.pace.firstRetry, r.pace.lastRetry = time.Hour, time.Hour
	s := serve(t, "127.0.0.3:0", say("3"))
	r.config.ConnectTimeout = 50 * time.Millisecond
	r.must(listener(t, "db.test:"+fmt.Sprint(s.addr.Port())))
	assert.Equal(t, "3", r.got(0))
	assert.Equal(t, 2, r.last(1).Attempts)
	for range 5 {
		assert.Equal(t, "3", r.got(0))
	}
	r.logged(5, func(rec accesslog.Connection) bool { return rec.Attempts == 1 })
	want := fmt.Sprintf(`# HELP sluice_tcp_connect_errors_total Attempts to connect to the destination that failed, by class.
# TYPE sluice_tcp_connect_errors_total counter
sluice_tcp_connect_errors_total{class="denied",destination="db.test:%[1]d",listener="p"} 0
sluice_tcp_connect_errors_total{class="local",destination="db.test:%[1]d",listener="p"} 0
sluice_tcp_connect_errors_total{class="other",destination="db.test:%[1]d",listener="p"} 0
sluice_tcp_connect_errors_total{class="refused",destination="db.test:%[1]d",listener="p"} 0
sluice_tcp_connect_errors_total{class="timeout",destination="db.test:%[1]d",listener="p"} 1
sluice_tcp_connect_errors_total{class="unroutable",destination="db.test:%[1]d",listener="p"} 0
# HELP sluice_tcp_sessions_total Connections made to the destination for clients.
# TYPE sluice_tcp_sessions_total counter
sluice_tcp_sessions_total{destination="db.test:%[1]d",listener="p"} 6
`, s.addr.Port())
	assert.NoError(t, testutil.GatherAndCompare(r.reg, strings.NewReader(want), "sluice_tcp_connect_errors_total", "sluice_tcp_sessions_total"))
}

// Both families of one name are used, and IPv6 is listened on and written down.
func TestBothFamilies(t *testing.T) {
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine's loopback")
	}
	six.Close()
	r := start(t)
	s := serve(t, "127.0.0.1:0", say("four"))
	port := fmt.Sprint(s.addr.Port())
	serve(t, "[::1]:"+port, say("six"))
	r.dns.Set("db.test", nettest.Addrs("127.0.0.1", "::1"))
	byName, byAddr := listener(t, "db.test:"+port), listener(t, "[::1]:"+port)
	byAddr.Listen = "[::1]:0"
	r.must(byName, byAddr)
	seen := map[string]int{}
	for range 6 {
		seen[r.got(0)]++
	}
	assert.Equal(t, map[string]int{"four": 3, "six": 3}, seen)
	assert.Equal(t, "six", r.got(1))
	assert.Equal(t, "[::1]:"+port, r.Status()[1].Destinations[0].Label)
	// With a source of one family only, the other is out of reach, never left by
	// another address.
	r.sources = []netip.Addr{netip.MustParseAddr("127.0.0.9")}
	r.must(byName, byAddr)
	for range 4 {
		require.Equal(t, "four", r.got(0))
	}
	refused(t, r, 1)
}

// Two names that lead to one address are one address to try.
func TestAttemptsAreDistinct(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.2:0", say("x"))
	port := fmt.Sprint(s.addr.Port())
	s.stop()
	r.pace.firstRetry = time.Hour
	r.dns.Set("a.test", nettest.Addrs("127.0.0.2"))
	r.dns.Set("b.test", nettest.Addrs("127.0.0.2"))
	r.must(listener(t, "a.test:"+port, "b.test:"+port))
	nettest.Eventually(t, "both are resolved", func() bool {
		st := r.Status()[0]
		return len(st.Destinations[0].Addresses) == 1 && len(st.Destinations[1].Addresses) == 1
	})
	refused(t, r, 0)
	assert.Equal(t, 1, r.last(1).Attempts)
}
