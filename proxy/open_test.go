package proxy

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// room has the process open so many descriptors, or as many as it may.
func room(t *testing.T, want uint64) uint64 {
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	if old.Cur >= want {
		return want
	}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: max(want, old.Max)})
	if err == nil {
		t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: old.Cur, Max: max(want, old.Max)}) })
		return want
	}
	t.Logf("only %d descriptors: %v", old.Cur, err)
	return old.Cur
}

// All that is open is listed, and what each is, however much that is; some of it is cut.
func TestOpenTunnels(t *testing.T) {
	const each = 4 // descriptors: the client's, two of ours, the server's
	many := int(min(10_000, (room(t, 10_500*each)-1000)/each))
	release := make(chan struct{})
	server := rawOrigin(t, func(c *rawClient) {
		c.SetDeadline(time.Time{})
		c.send(t, "hello")
		<-release
	})
	defer close(release)
	g := start(t, allowLoopback, nil, func(o *Options) {
		o.Budget, o.IdleTimeout = fdbudget.New(int64(10*many)), time.Hour
	})
	clients := make(map[string]*rawClient, many)
	for i := range many {
		c := g.dial(t)
		c.SetDeadline(time.Time{})
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n%s", server, strings.Repeat("x", i%5))
		require.Contains(t, c.head(t), " 200 ")
		_, err := io.ReadFull(c.r, make([]byte, 5))
		require.NoError(t, err)
		clients[c.LocalAddr().String()] = c
	}
	var open []door.Open
	listed := time.Duration(0)
	nettest.Eventually(t, "all are tunnels, just after their answers", func() bool {
		begin := time.Now()
		open = g.Open()
		listed = time.Since(begin)
		for _, o := range open {
			if o.State != door.Tunnel || o.Sent != 5 {
				return false
			}
		}
		return len(open) == many
	})
	t.Logf("%d tunnels listed in %v", many, listed)
	at := netip.MustParseAddrPort(server)
	for _, o := range open {
		require.Equal(t, at, o.Addr)
		require.Equal(t, at, netip.AddrPortFrom(o.Target.Host.Addr(), o.Target.Port))
		require.Contains(t, clients, o.Client.String())
		require.Less(t, o.Received, int64(5))
		require.WithinDuration(t, time.Now(), o.Since, 5*time.Minute)
	}
	assert.Zero(t, g.Revoke(), "all of it is allowed")

	assert.Equal(t, 1, g.Cut(func(o *door.Open) bool { return o.Client == open[7].Client }))
	_, err := clients[open[7].Client.String()].r.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
	nettest.Eventually(t, "it is logged", func() bool {
		return strings.Contains(g.log.String(), `"client":"`+open[7].Client.String()+`"`)
	})
	g.rules(t, "!127.0.0.0/8")
	begin := time.Now()
	assert.Equal(t, many-1, g.Revoke())
	t.Logf("%d tunnels judged again and ended in %v", many-1, time.Since(begin))
	nettest.Eventually(t, "nothing is open", func() bool { return len(g.Open()) == 0 })
}

// A request under way is described on both paths, with what it has asked for, and the address
// in use; and ends when it is cut or revoked.
func TestOpenRequests(t *testing.T) {
	for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
		for how, end := range map[string]func(*testing.T, *gateway) int{
			"cut": func(_ *testing.T, g *gateway) int {
				return g.Cut(func(o *door.Open) bool { return o.State == door.Request })
			},
			"revoked": func(t *testing.T, g *gateway) int { g.rules(t, ""); return g.Revoke() },
		} {
			t.Run(how+" on the "+path, func(t *testing.T) {
				asked, gone := make(chan struct{}), make(chan struct{})
				server := rawOrigin(t, func(c *rawClient) {
					c.head(t)
					close(asked)
					c.r.ReadByte()
					close(gone)
				})
				g := start(t, "!denied.test\n"+allowLoopback, names{"a.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
				idle, c := g.dial(t), g.dial(t)
				c.send(t, "%sGET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", ahead, server)
				soon(t, asked)
				var open []door.Open
				nettest.Eventually(t, "both are open", func() bool { open = g.Open(); return len(open) == 2 })
				if open[0].State == door.Waiting {
					open[0], open[1] = open[1], open[0]
				}
				assert.Equal(t, door.Open{Client: netip.MustParseAddrPort(idle.LocalAddr().String())}, open[1])
				assert.Equal(t, door.Request, open[0].State)
				assert.Equal(t, server, open[0].Addr.String())
				assert.Equal(t, "127.0.0.1", open[0].Target.Host.String())
				assert.Equal(t, c.LocalAddr().String(), open[0].Client.String())
				assert.Equal(t, 1, end(t, g))
				soon(t, gone)
				all, _ := io.ReadAll(c.r)
				assert.NotContains(t, string(all), " 200 ")
				idle.send(t, "CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n")
				res, _ := idle.response(t, "GET")
				assert.Equal(t, 403, res.StatusCode, "others are let be")
			})
		}
	}
}
