package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// movesOnDial has then called, once, when the gateway has begun its next connection, on the loop or on
// a goroutine: before the connection may be used.
func movesOnDial(o *Options, known names, then *atomic.Pointer[func()]) {
	move := func() {
		if f := then.Swap(nil); f != nil {
			(*f)()
		}
	}
	lookup := func(_ context.Context, name string) ([]netip.Addr, error) { return known[name], nil }
	gate := outbound.NewGate(lookup, func(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
		c, err := dial.TCP(ctx, source, dst)
		move()
		return c, err
	}, o.Gate.Pool)
	gate.Begin = func(c *sock.Conn, source netip.Addr, dst netip.AddrPort) (bool, error) {
		defer move()
		return dial.Begin(c, source, dst)
	}
	gate.Known = func(name string) ([]netip.Addr, bool, error) { return known[name], true, nil }
	o.Gate = gate
}

// asked is a server of HTTP that takes down what it was asked for, of each connection: "" is nothing.
func asked(t testing.TB) (addr netip.AddrPort, heads chan string) {
	t.Helper()
	heads = make(chan string, 100)
	at := rawOrigin(t, func(c *rawClient) {
		r, err := http.ReadRequest(c.r)
		if err != nil {
			heads <- ""
			return
		}
		heads <- r.Method
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	return netip.MustParseAddrPort(at), heads
}

// asksBy are the ways in which a client asks the server for something; they return the status that it is
// told, or what stands for that in SOCKS.
var asksBy = map[string]func(t testing.TB, g *socksGateway, target string) int{
	"GET on the loop":        func(t testing.TB, g *socksGateway, target string) int { return movedGet(t, g, "", target) },
	"GET on a goroutine":     func(t testing.TB, g *socksGateway, target string) int { return movedGet(t, g, prefix, target) },
	"CONNECT on the loop":    func(t testing.TB, g *socksGateway, target string) int { return movedConnect(t, g, "", "", target) },
	"CONNECT on a goroutine": func(t testing.TB, g *socksGateway, target string) int { return movedConnect(t, g, prefix, "", target) },
	"CONNECT with early bytes": func(t testing.TB, g *socksGateway, target string) int {
		return movedConnect(t, g, "", plainGet, target)
	},
	"SOCKS on the loop":    func(t testing.TB, g *socksGateway, target string) int { return movedSocks(t, g, "", target) },
	"SOCKS on a goroutine": func(t testing.TB, g *socksGateway, target string) int { return movedSocks(t, g, plainGet, target) },
}

const plainGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func movedGet(t testing.TB, g *socksGateway, ahead, target string) int {
	c := g.gateway.dial(t)
	c.send(t, "%sGET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", ahead, target)
	if ahead != "" {
		c.response(t, "GET")
	}
	resp, _ := c.response(t, "GET")
	return resp.StatusCode
}

func movedConnect(t testing.TB, g *socksGateway, ahead, early, target string) int {
	c := g.gateway.dial(t)
	c.send(t, "%sCONNECT %s HTTP/1.1\r\n\r\n%s", ahead, target, early)
	if ahead != "" {
		c.response(t, "GET")
	}
	status := 0
	_, err := fmt.Sscanf(c.head(t), "HTTP/1.1 %d", &status)
	require.NoError(t, err)
	if status != 200 {
		return status
	}
	if early == "" {
		c.send(t, plainGet)
	}
	resp, _ := c.response(t, "GET")
	return resp.StatusCode
}

func movedSocks(t testing.TB, g *socksGateway, early, target string) int {
	c := g.dial(t)
	says(t, c, greets+asksFor(target)+early)
	hears(t, c, ok)
	said := make([]byte, len(made))
	_, err := io.ReadFull(c, said)
	require.NoError(t, err)
	if string(said) != made {
		return map[string]int{reply(1): 503, reply(2): 403}[string(said)]
	}
	if early == "" {
		says(t, c, plainGet)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// movedRules let the server be reached by its name.
const movedRules = "!denied.test\n*.test\n127.0.0.0/8"

// Whatever the protocol, on the loop and on a goroutine, nothing goes over a connection that the client
// would not get by what is in force when it is there: of another tenant, from another source, by
// another parent or none, or with another credential for it.
func TestMovedEveryWay(t *testing.T) {
	parents := func(t *testing.T, ways ...policy.Way) *policy.Parents {
		p, err := policy.NewParents(ways)
		require.NoError(t, err)
		return p
	}
	type change func(t *testing.T, is *policy.Tenant, p, other *parentProxy)
	by := func(login string, byName bool) change {
		return func(t *testing.T, is *policy.Tenant, p, _ *parentProxy) {
			is.Parents = parents(t, policy.Way{Via: []*policy.Parent{p.parent(t, nil, login)}, ByName: byName})
		}
	}
	sources := func(addr string) change {
		return func(t *testing.T, is *policy.Tenant, _, _ *parentProxy) {
			is.Sources = policy.NewSources([]netip.Addr{netip.MustParseAddr(addr)})
		}
	}
	nothing := func(*testing.T, *policy.Tenant, *parentProxy, *parentProxy) {}
	none := func(_ *testing.T, is *policy.Tenant, _, _ *parentProxy) { is.Parents = nil }
	for name, tt := range map[string]struct {
		before, meanwhile change
		want              int // 403: an address that nobody has judged
	}{
		"nothing":           {nothing, nothing, 200},
		"the same source":   {sources("127.0.0.5"), sources("127.0.0.5"), 200},
		"another source":    {sources("127.0.0.5"), sources("127.0.0.6"), 503},
		"a source":          {nothing, sources("127.0.0.6"), 503},
		"no source for now": {nothing, func(_ *testing.T, is *policy.Tenant, _, _ *parentProxy) { is.Sources = policy.NoSources() }, 503},
		"another tenant":    {nothing, func(_ *testing.T, is *policy.Tenant, _, _ *parentProxy) { is.Name = "other" }, 503},
		"shadow rules": {nothing, func(t *testing.T, is *policy.Tenant, _, _ *parentProxy) {
			rules, err := acl.Parse("!127.0.0.0/8")
			require.NoError(t, err)
			is.Shadow = policy.NewShadow(rules)
		}, 200},
		"a parent":                      {nothing, by("", false), 503},
		"a parent by name":              {nothing, by("", true), 503},
		"no parent":                     {by("", false), none, 503},
		"no parent by name":             {by("", true), none, 403},
		"the same parent":               {by("Basic YQ==", false), by("Basic YQ==", false), 200},
		"the same parent by name":       {by("Basic YQ==", true), by("Basic YQ==", true), 200},
		"another credential":            {by("Basic YQ==", false), by("Basic Yg==", false), 503},
		"another credential, by name":   {by("Basic YQ==", true), by("Basic Yg==", true), 503},
		"no credential":                 {by("Basic YQ==", false), by("", false), 503},
		"by name instead of by address": {by("", false), by("", true), 503},
		"by address instead of by name": {by("", true), by("", false), 403},
		"another tenant by a parent":    {by("", false), func(_ *testing.T, is *policy.Tenant, _, _ *parentProxy) { is.Name = "other" }, 503},
		"another source by a parent":    {by("", false), sources("127.0.0.6"), 503},
		"another tenant by name":        {by("", true), func(_ *testing.T, is *policy.Tenant, _, _ *parentProxy) { is.Name = "other" }, 503},
		"another parent":                {by("", false), func(t *testing.T, is *policy.Tenant, _, o *parentProxy) { by("", false)(t, is, o, nil) }, 503},
		"the same parent, behind others": {by("", false), func(t *testing.T, is *policy.Tenant, p, o *parentProxy) {
			is.Parents = parents(t, policy.Way{Via: []*policy.Parent{o.parent(t, nil, ""), p.parent(t, nil, ""), direct}})
		}, 200},
	} {
		for way, ask := range asksBy {
			t.Run(name+", "+way, func(t *testing.T) {
				server, heads := asked(t)
				p, other := newParent(t, nil, goes), newParent(t, nil, goes)
				var then atomic.Pointer[func()]
				g := startSocks(t, movedRules, nil, func(o *Options) { movesOnDial(o, loopbackNames, &then) })
				tt.before(t, &g.tenant, p, other)
				g.SetGeneration(policy.New(g.tenant))
				move := func() {
					now := g.tenant
					tt.meanwhile(t, &now, p, other)
					g.SetGeneration(policy.New(now))
				}
				then.Store(&move)
				status := ask(t, g, fmt.Sprintf("a.test:%d", server.Port()))
				require.Nil(t, then.Load(), "a connection was begun")
				assert.Equal(t, tt.want, status)
				if tt.want == 200 {
					assert.Equal(t, "GET", <-heads)
					return
				}
				if strings.Contains(name, "name") && strings.HasPrefix(way, "GET") && len(p.got())+len(heads) == 0 {
					return // the parent, which would have been asked for the request, was asked for nothing
				}
				assert.Empty(t, <-heads)
			})
		}
	}
}
