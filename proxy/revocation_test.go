package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// force puts rules in force under a name.
func (g *gateway) force(t testing.TB, number uint64, rules string, change ...func(*policy.Set)) {
	t.Helper()
	g.tenant.Rules = g.ruleset(t, rules)
	s := policy.Set{Name: policy.Name{Number: number, Hash: strings.Repeat(fmt.Sprint(number), 64)}, Rest: g.tenant}
	for _, f := range change {
		f(&s)
	}
	g.SetGeneration(s.Generation())
}

// Who has had nothing of an answer yet is told why there is none, on both paths, and by TLS to
// the server; the log has both generations.
func TestRevokedBeforeTheAnswer(t *testing.T) {
	for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
		t.Run(path, func(t *testing.T) {
			asked := make(chan struct{})
			server := rawOrigin(t, func(c *rawClient) {
				c.head(t)
				close(asked)
				c.r.ReadByte()
			})
			g := start(t, "", nil, nil)
			g.force(t, 1, "!denied.test\n"+allowLoopback)
			c := g.dial(t)
			c.send(t, "%sGET http://%s/ HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n", ahead, server)
			if ahead != "" {
				c.response(t, "GET")
			}
			soon(t, asked)
			nettest.Eventually(t, "it has its server", func() bool { o := g.Open(); return len(o) == 1 && o[0].Addr.IsValid() })
			g.force(t, 2, "# closed\n!127.0.0.0/8")
			assert.Equal(t, 1, g.Revoke())
			res, body := c.response(t, "GET")
			assert.Equal(t, "403 Egress denied: line 2 !127.0.0.0/8", res.Status)
			assert.Contains(t, res.Header.Get("Proxy-Status"), `; generation=2; policy="222222222222"`)
			assert.Contains(t, string(body), `"generation":2,"policy":"222222222222"`)
			assert.True(t, res.Close)
			_, err := c.r.ReadByte()
			assert.ErrorIs(t, err, io.EOF)
			lines := g.lines(t, 1+len(ahead)/len(prefix))
			last := lines[len(lines)-1]
			assert.Contains(t, last, `"verdict":"allow","reason":"line 2 127.0.0.0/8","line":2,"generation":1,"policy":"111111111111"`)
			assert.Contains(t, last, `"status":403,`)
			assert.Contains(t, last, `"error":"http_request_denied","revoked":"line 2 !127.0.0.0/8","revoked_line":2,"revoked_generation":2,"revoked_policy":"222222222222"}`)
		})
	}
}

// A tunnel, an Upgrade and an answer under way end with their lines; what the new policy admits
// goes on, and where what is open is kept, all of it.
func TestRevokedInTheMiddle(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		head := c.head(t)
		if strings.Contains(head, "Upgrade") {
			c.send(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		} else {
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
		}
		io.Copy(c.TCPConn, c.r)
	})
	for name, request := range map[string]string{
		"tunnel":  "CONNECT %s HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"upgrade": "GET http://%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"answer":  "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
			t.Run(name+" on the "+path, func(t *testing.T) {
				g := start(t, "", nil, nil)
				g.force(t, 1, "!denied.test\n"+allowLoopback)
				c := g.dial(t)
				c.send(t, "%s"+request, ahead, server)
				if ahead != "" {
					c.response(t, "GET")
				}
				c.head(t)
				if name == "tunnel" {
					c.head(t) // from the server: before, it might have none of what the client said
				}
				nettest.Eventually(t, "it is open", func() bool { o := g.Open(); return len(o) == 1 && o[0].Addr.IsValid() })
				assert.Zero(t, g.Revoke())
				g.force(t, 2, "", func(s *policy.Set) { s.KeepOpen = true })
				assert.Zero(t, g.Revoke(), "it is kept")
				assert.Len(t, g.Open(), 1)
				g.force(t, 3, "")
				assert.Equal(t, 1, g.Revoke())
				io.ReadAll(c.r)
				lines := g.lines(t, 1+len(ahead)/len(prefix))
				assert.Contains(t, lines[len(lines)-1], `"generation":1,"policy":"111111111111"`)
				assert.Contains(t, lines[len(lines)-1], `"error":"http_request_denied","revoked":"default","revoked_generation":3,"revoked_policy":"333333333333"}`)
			})
		}
	}
}

// A token that has ended lets nobody go on, without any reload; nor does a user who is none any
// more, or a mode by which somebody has to be shown.
func TestRevokedWithWhatWasShown(t *testing.T) {
	echo := echoServer(t)
	account, err := auth.ParseSelector(auth.ByServiceAccount, "ns/sa")
	require.NoError(t, err)
	reviewer := &tokens{}
	reviewer.ends.Store(time.Now().Add(time.Hour).Unix())
	g := start(t, "", nil, func(o *Options) { o.Gate.Verifier = auth.New(auth.Options{Reviewer: reviewer}) })
	t.Cleanup(g.Gate.Verifier.Close)
	in := func(mode policy.Mode) func(*policy.Set) {
		return func(s *policy.Set) {
			s.Authentication.Mode = mode
			s.Tenants = []policy.Taker{{Tenant: policy.Tenant{Name: "a", Rules: g.ruleset(t, allowLoopback)}, Shown: []auth.Selector{account}}}
		}
	}
	g.force(t, 1, "", in(policy.Optional))
	open := func(token string) *rawClient {
		c := g.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\nProxy-Authorization: Bearer %s\r\n\r\n", echo, token)
		require.Contains(t, c.head(t), " 200 ")
		return c
	}
	long := open("long")
	reviewer.ends.Store(time.Now().Add(time.Second).Unix() + 1)
	short := open("short")
	_, err = io.ReadAll(short.r)
	assert.NoError(t, err)
	line := g.lines(t, 1)[0]
	assert.Contains(t, line, `"user":"ns/sa"`)
	assert.Contains(t, line, `"revoked":"default","revoked_generation":1`, "it is nobody's now, for whom there is no rule")
	echoes := func(c *rawClient) {
		c.send(t, "hello")
		_, err := io.ReadFull(c.r, make([]byte, 5))
		require.NoError(t, err)
	}
	echoes(long)

	g.force(t, 2, allowLoopback, in(policy.Off))
	assert.Zero(t, g.Revoke())
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
	require.Contains(t, c.head(t), " 200 ")
	g.force(t, 3, allowLoopback, in(policy.Required))
	assert.Equal(t, 1, g.Revoke())
	io.ReadAll(c.r)
	echoes(long)
	assert.Contains(t, g.lines(t, 2)[1], `"revoked":"the client has shown nothing that still holds, and has to","revoked_generation":3`)
}

// tokens is a reviewer to whom every token is good.
type tokens struct{ ends atomic.Int64 }

func (r *tokens) Review(context.Context, string) (*auth.Identity, time.Time, error) {
	return auth.NewServiceAccount("ns", "sa", ""), time.Unix(r.ends.Load(), 0), nil
}

// A client whose address is another pod's goes on only with what that one may, without any
// reload; one of whom nothing is known any more goes on.
func TestRevokedWithThePod(t *testing.T) {
	echo := echoServer(t)
	table := &podTable{pods: map[netip.Addr]policy.Pod{}}
	table.set("127.0.0.1", policy.Pod{Namespace: "ns", Name: "p"})
	table.set("127.0.0.2", policy.Pod{Namespace: "ns", Name: "q"})
	g := start(t, "", nil, func(o *Options) { o.Gate.Pods = table })
	g.force(t, 1, "", func(s *policy.Set) {
		s.Tenants = []policy.Taker{{Tenant: policy.Tenant{Name: "a", Rules: g.ruleset(t, allowLoopback)}, Pods: []policy.PodSelector{{Namespace: "ns"}}}}
	})
	open := func(from string) *rawClient {
		c := g.dialFrom(t, from)
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
		require.Contains(t, c.head(t), " 200 ")
		return c
	}
	p, q := open("127.0.0.1"), open("127.0.0.2")
	nettest.Eventually(t, "they are listed", func() bool { return len(g.Open()) == 2 })
	table.set("127.0.0.1", policy.Pod{Namespace: "other", Name: "r"})
	io.ReadAll(p.r)
	assert.Contains(t, g.lines(t, 1)[0], `"namespace":"ns","pod":"p"`)
	table.forget()
	assert.Zero(t, g.Revoke(), "nothing is known")
	q.send(t, "hello")
	_, err := io.ReadFull(q.r, make([]byte, 5))
	require.NoError(t, err)
}

// podTable says which pod has an address.
type podTable struct {
	mu      sync.Mutex
	pods    map[netip.Addr]policy.Pod
	version uint64
}

func (p *podTable) set(addr string, pod policy.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pods[netip.MustParseAddr(addr)] = pod
	p.version++
}

func (p *podTable) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pods, p.version = nil, 0
}

func (p *podTable) Lookup(a netip.Addr) (policy.Pod, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pod, ok := p.pods[a]
	return pod, ok
}

func (p *podTable) Wait(_ context.Context, a netip.Addr) (policy.Pod, bool) { return p.Lookup(a) }

func (p *podTable) Version() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// Idle connections that no name leads to any more are closed, others are kept.
func TestIdleConnectionsOutOfReach(t *testing.T) {
	answers := func(c *rawClient) {
		for {
			if _, err := http.ReadRequest(c.r); err != nil {
				return
			}
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
	a, b := rawOrigin(t, answers), rawOrigin(t, answers)
	port := func(addr string) uint16 { return netip.MustParseAddrPort(addr).Port() }
	g := start(t, "", names{"a.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
	g.force(t, 1, allowLoopback)
	get := func(host string) {
		c := g.dial(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", host)
		res, _ := c.response(t, "GET")
		require.Equal(t, 200, res.StatusCode)
	}
	get(fmt.Sprint("a.test:", port(a)))
	get(b)
	nettest.Eventually(t, "both lie idle", func() bool { return g.Gate.Pool.Len() == 2 })
	g.force(t, 2, fmt.Sprintf("127.0.0.1:%d\na.test", port(a)), func(s *policy.Set) { s.KeepOpen = true })
	g.Revoke()
	assert.Equal(t, 2, g.Gate.Pool.Len(), "what is open is kept")
	g.force(t, 3, fmt.Sprintf("127.0.0.1:%d\na.test:1", port(a)))
	g.Revoke()
	assert.Equal(t, 1, g.Gate.Pool.Len())
	g.force(t, 4, "")
	g.Revoke()
	assert.Zero(t, g.Gate.Pool.Len())
}
