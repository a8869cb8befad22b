//go:build linux

package http

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// fromOutside is where the gateway listens for who is not in the cluster.
const fromOutside = nettest.SourceV4 + ":8080"

// passesOn runs what passes connections on, at a port of server B: a balancer, which hides who is
// behind it.
func (o *outside) passesOn(t testing.TB, port, to string) {
	t.Helper()
	l := o.ServerB.Listen(beside + ":" + port)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				d, err := o.ServerB.DialContext(t.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer d.Close()
				open.Go(func() { io.Copy(d, c); d.(*net.TCPConn).CloseWrite() })
				io.Copy(c, d)
			})
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
}

// Two gateways that are each other's parents, and one that is its own behind a balancer: the first that a
// request comes back to ends the circle, and the server hears of nothing.
func TestParentCircles(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com")
	o.passesOn(t, "4000", fromOutside)
	for _, connect := range []string{"address", "name"} {
		for _, at := range []string{"3128", "4000"} {
			t.Run(connect+" "+at, func(t *testing.T) {
				var b *gateway
				if at == "3128" {
					b = o.real(t, "3128", "rules: \"*\"\nparents: [{via: 'http://"+fromOutside+"', connect: "+connect+"}]\n")
				}
				wire := o.ServerA.Capture(t)
				a := o.withParents(t, "rules: |\n  api.example.com\n  203.0.113.10\nparents: [{via: 'http://"+beside+":"+at+"', connect: "+connect+"}]\n")
				for n, scheme := range []string{"https://", "http://"} {
					got := o.curl(t, scheme+"api.example.com/")
					want := "HTTP/1.1 503 Service Unavailable: parent proxy http://" + beside + ":" + at + ": it does not get there: "
					if connect == "name" && scheme == "http://" { // the refusal is passed on
						want = "HTTP/1.1 502 Bad Gateway: the request has come through this proxy before (Via)"
					}
					assert.Contains(t, statusLine(got.Out), want, got.Err)
					var lines string
					nettest.Eventually(t, "each is logged", func() bool {
						lines = strings.Join(a.AccessLog(), "\n")
						return strings.Count(lines, `"target":`) == 2*(n+1)
					})
					assert.Equal(t, n+1, strings.Count(lines, `"error":"proxy_loop_detected"`), lines)
					if b != nil {
						nettest.Eventually(t, "the other logs it", func() bool { return strings.Count(strings.Join(b.AccessLog(), "\n"), `"target":`) == n+1 })
					}
				}
				assert.Empty(t, o.Seen(t, wire, nettest.ServerAV4))
			})
		}
	}
}

// A parent that is the gateway itself is no parent: when the configuration is read, or, behind a name,
// when it is to be connected to.
func TestParentIsItself(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com")
	o.DNS.Set("self.example.net", nettest.Addrs(nettest.SourceV4))
	args := append([]string{"--resolver", nettest.NodeV4}, sources...)
	p := program.Launch(t, program.Setup{Netns: o.Egress, Config: "rules: api.example.com\nparents: [{via: 'http://" + fromOutside + "'}]\n", Args: args})
	assert.Equal(t, 2, p.Exit())
	assert.Contains(t, p.Stderr(), "http://"+fromOutside+" is where this gateway listens itself: its requests would go round in a circle")
	g := o.withParents(t, "rules: api.example.com\nparents: [{via: ['http://self.example.net:8080', direct]}, {via: 'http://self.example.net:8080'}]\n")
	got := o.curl(t, "https://api.example.com/")
	assert.Equal(t, directly, lastLine(got.Out), got.Err)
	require.NoError(t, writeOver(g.File, "rules: api.example.com\nparents: [{via: 'http://self.example.net:8080'}]\n"))
	g.reload()
	for _, scheme := range []string{"https://", "http://"} {
		got = o.curl(t, scheme+"api.example.com/")
		assert.Equal(t, "HTTP/1.1 502 Bad Gateway: parent proxy http://self.example.net:8080: "+fromOutside+" is where this gateway listens itself", statusLine(got.Out), got.Err)
	}
}
