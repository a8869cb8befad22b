//go:build race

package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Every arrow of the diagram is walked by some exchange, and no other ever is: that would
// panic, here and in all other tests.
func TestStages(t *testing.T) {
	for from := range walked {
		for to := range walked[from] {
			walked[from][to].Store(false)
		}
	}
	long := strings.Repeat("x", 1<<20)
	server := rawOrigin(t, func(c *rawClient) {
		for {
			if _, err := c.r.Peek(1); err != nil {
				return
			}
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long)
		}
	})
	_, port, _ := strings.Cut(server, ":")
	two := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	g := start(t, "!denied.test\n"+allowLoopback+"two.test\n", names{"two.test": two}, nil)
	get := func(host string) (status int) {
		c := g.dial(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", host)
		res, _ := c.response(t, "GET")
		return res.StatusCode
	}
	assert.Equal(t, 403, get("denied.test")) // new, failed, refusing
	assert.Equal(t, 200, get(server))        // new, request, sent, answer, body
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server) // new, connected
	require.Contains(t, c.head(t), " 200 ")
	c = g.dial(t)
	c.send(t, "CONNECT two.test:%s HTTP/1.1\r\n\r\n", port) // new, dial
	require.Contains(t, c.head(t), " 200 ")
	for _, connect := range []bool{false, true} { // new, connecting, then request or connected
		dead, accept := nettest.FullQueue(t)
		c := g.dial(t)
		if connect {
			c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", dead)
		} else {
			c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", dead)
		}
		nettest.Eventually(t, "it is being connected", func() bool { return connecting(g) })
		accept()
		fd := accept()
		if connect {
			require.Contains(t, c.head(t), " 200 ")
			continue
		}
		_, err := unix.Write(fd, []byte("HTTP/1.1 204 No Content\r\n\r\n"))
		require.NoError(t, err)
		res, _ := c.response(t, "GET")
		assert.Equal(t, 204, res.StatusCode)
	}
	at, refuse := fullQueueThatEnds(t)
	c = g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", at) // new, connecting, failed
	nettest.Eventually(t, "it is being connected", func() bool { return connecting(g) })
	refuse()
	res, _ := c.response(t, "GET")
	assert.Equal(t, 502, res.StatusCode)

	for from, all := range follows {
		for _, to := range all {
			assert.True(t, walked[from][to].Load(), "from stage %d to %d", from, to)
		}
	}
}

// fullQueueThatEnds is a port that answers no handshake, and then refuses the next attempt.
func fullQueueThatEnds(t *testing.T) (at string, refuse func()) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	require.NoError(t, err)
	at = fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	first, err := net.Dial("tcp", at)
	require.NoError(t, err)
	t.Cleanup(func() { first.Close() })
	return at, func() { require.NoError(t, unix.Close(fd)) }
}
