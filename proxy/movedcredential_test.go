package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// movedInside is a gateway that opens tunnels to a server, which takes down the credential of each
// request.
type movedInside struct {
	*insideGate
	then atomic.Pointer[func()] // see movesOnDial

	mu   sync.Mutex
	seen []string // source address and credential
}

var insideNames = names{"api.test": {netip.MustParseAddr("127.0.0.1")}}

func startMovedInside(t testing.TB, proto string) *movedInside {
	t.Helper()
	g := &movedInside{}
	g.insideGate = startInside(t, []string{proto}, func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		g.mu.Lock()
		g.seen = append(g.seen, from+" "+r.Header.Get("Authorization"))
		g.mu.Unlock()
	}, func(_ *policy.Inspected, o *Options) { movesOnDial(o, insideNames, &g.then) })
	return g
}

// took are the credentials that the server has seen since it was asked for last.
func (g *movedInside) took() (seen []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen, g.seen = g.seen, nil
	return seen
}

// tenantWith is a tenant of that name whose requests get that credential, "" for none.
func (g *movedInside) tenantWith(t testing.TB, name, credential, source string) policy.Tenant {
	t.Helper()
	host := policy.Inspected{Host: g.target, Requests: everything(t)}
	if credential != "" {
		host.Headers = []policy.Header{policy.NewHeader("Authorization", "", []byte(credential))}
	}
	in, err := policy.NewInspect([]policy.Inspected{host})
	require.NoError(t, err)
	in.Certificate = g.tenant.Inspect.Certificate
	is := g.tenant
	is.Name, is.Inspect, is.Sources = name, in, policy.NewSources([]netip.Addr{netip.MustParseAddr(source)})
	return is
}

// asker is a client of an opened tunnel; what it returns asks once, and says what status came.
func (g *movedInside) asker(t testing.TB, proto string) func() int {
	if proto == "h2" {
		cc := g.h2(t)
		return func() int {
			resp := g.ask(t, cc, "GET", "/", nil)
			all(t, resp)
			return resp.StatusCode
		}
	}
	c, r := g.http1(t)
	return func() int {
		g.get(t, c, "/", "")
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		all(t, resp)
		return resp.StatusCode
	}
}

// While a connection is made its client may become another tenant's, or its credential another: no
// request goes out with what is not in force any more, nor does one go over a connection that was made
// for another credential.
func TestMovedCredential(t *testing.T) {
	for name, tt := range map[string]struct {
		tenant, credential string
		want               int
	}{
		"nothing":                         {"a", "secret of a", 200},
		"another tenant":                  {"b", "secret of b", 503},
		"another tenant, same credential": {"b", "secret of a", 503},
		"another tenant without one":      {"b", "", 503},
		"it is rotated":                   {"a", "secret of a, anew", 503},
		"it is taken away":                {"a", "", 503},
	} {
		for _, down := range []string{"h2", "http/1.1"} {
			for _, up := range []string{"h2", "http/1.1"} {
				t.Run(name+", "+down+" to "+up, func(t *testing.T) {
					g := startMovedInside(t, up)
					g.SetGeneration(policy.New(g.tenantWith(t, "a", "secret of a", "127.0.0.1")))
					move := func() {
						g.SetGeneration(policy.New(g.tenantWith(t, tt.tenant, tt.credential, "127.0.0.1")))
					}
					ask := g.asker(t, down)
					g.then.Store(&move)
					assert.Equal(t, tt.want, ask())
					require.Nil(t, g.then.Load(), "a connection was begun")
					now := "127.0.0.1 " + tt.credential
					if tt.want == 200 {
						assert.Equal(t, []string{now}, g.took())
						return
					}
					assert.Empty(t, g.took())
					assert.Equal(t, 200, ask(), "the same tunnel leads there")
					assert.Equal(t, []string{now}, g.took())
				})
			}
		}
	}
}

// A connection that has carried requests with one credential carries none of another tenant, nor of the
// same with another credential; what is under way beside that is refused, or goes with its own.
func TestMovedBackAndForth(t *testing.T) {
	const asks = 40
	for _, up := range []string{"h2", "http/1.1"} {
		t.Run(up, func(t *testing.T) {
			g := startMovedInside(t, up)
			generations := []*policy.Generation{
				policy.New(g.tenantWith(t, "a", "secret of 21", "127.0.0.21")),
				policy.New(g.tenantWith(t, "b", "secret of 22", "127.0.0.22")),
				policy.New(g.tenantWith(t, "a", "secret of 23", "127.0.0.23")),
			}
			g.SetGeneration(generations[0])
			var wg sync.WaitGroup
			var refused atomic.Int32
			h2 := g.asker(t, "h2")
			clients := []func() int{h2, h2, h2, g.asker(t, "h2"), g.asker(t, "http/1.1"), g.asker(t, "http/1.1")}
			for _, ask := range clients {
				wg.Go(func() {
					for range asks {
						switch ask() {
						case 200:
						case 503:
							refused.Add(1)
						default:
							t.Error("neither done nor refused")
						}
					}
				})
			}
			done, over := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(over)
				for n := 0; ; n++ {
					select {
					case <-done:
						return
					default:
						g.SetGeneration(generations[n%len(generations)])
						g.Revoke()
					}
				}
			}()
			wg.Wait()
			close(done)
			<-over
			seen := g.took()
			assert.Len(t, seen, len(clients)*asks-int(refused.Load()))
			by := map[string]int{}
			for _, s := range seen {
				by[s]++
			}
			for s := range by {
				from, secret, _ := strings.Cut(s, " ")
				assert.Equal(t, fmt.Sprint("secret of ", strings.TrimPrefix(from, "127.0.0.")), secret)
			}
			t.Log(by, "refused:", refused.Load())
		})
	}
}

// Who has to show who it is from now on cannot do so inside a tunnel, and is asked for nothing there: what
// it would send is for the server.
func TestMovedToLogin(t *testing.T) {
	for _, down := range []string{"h2", "http/1.1"} {
		t.Run(down, func(t *testing.T) {
			g := startMovedInside(t, "http/1.1")
			ask := g.asker(t, down)
			move := func() {
				g.SetGeneration(policy.Set{Rest: g.tenant, Authentication: policy.Authentication{Mode: policy.Required}}.Generation())
			}
			g.then.Store(&move)
			assert.Equal(t, 403, ask())
			assert.Equal(t, 403, ask(), "as when it is asked at once")
			assert.Empty(t, g.took())
		})
	}
}
