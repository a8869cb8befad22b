package proxy

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

const secret = "s3cret-of-all"

// asking runs a gateway that asks clients who they are: the tenant a is the user anna's, b is
// bert's, and others may what rules say.
func asking(t testing.TB, mode policy.Mode, rules string) *gateway {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	require.NoError(t, err)
	users, err := auth.ParseUsers("users", fmt.Sprintf("anna:%s\nbert:%s\ncarl:%s\n", hash, hash, hash))
	require.NoError(t, err)
	g := start(t, "", names{"shared.test": {netip.MustParseAddr("127.0.0.1")}}, func(o *Options) { o.Gate.Verifier = auth.New(auth.Options{}) })
	t.Cleanup(g.Gate.Verifier.Close)
	parse := func(text string) *acl.Policy { return g.ruleset(t, text) }
	user := func(name string) []auth.Selector {
		s, err := auth.ParseSelector(auth.ByUser, name)
		require.NoError(t, err)
		return []auth.Selector{s}
	}
	g.SetGeneration(policy.Set{
		Authentication: policy.Authentication{Mode: mode, Users: users},
		Rest:           policy.Tenant{Name: policy.DefaultName, Rules: parse(rules)},
		Tenants: []policy.Taker{
			{Tenant: policy.Tenant{Name: "a", Rules: parse(allowLoopback)}, Shown: user("anna")},
			{Tenant: policy.Tenant{Name: "b", Rules: parse(allowLoopback)}, Shown: user("bert")},
		},
	}.Generation())
	return g
}

// basic is the field that shows a user and a password.
func basic(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// counting is a server that answers each request with the number of its connection; seen has
// all the heads that came.
func counting(t testing.TB) (addr string, seen *atomic.Pointer[string]) {
	var conns atomic.Int32
	seen = new(atomic.Pointer[string])
	seen.Store(new(string))
	return rawOrigin(t, func(c *rawClient) {
		n := conns.Add(1)
		for {
			r, err := http.ReadRequest(c.r)
			if err != nil {
				return
			}
			all := *seen.Load() + fmt.Sprint(r.Method, " ", r.URL, " ", r.Header, "\n")
			seen.Store(&all)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		}
	}), seen
}

const challenges = "\r\nProxy-Authenticate: Basic realm=\"sluice\"\r\nProxy-Authenticate: Bearer realm=\"sluice\"\r\n"

// Every way to be asked and to answer, on both paths, for requests and for tunnels, each twice:
// by a verdict that is waited for, and by one that is remembered.
func TestAuthentication(t *testing.T) {
	server, seen := counting(t)
	for _, test := range []struct {
		name, fields string
		off          int // status when off, optional where the rules of others allow it, where they don't, and required
		optional     int
		denied       int
		required     int
	}{
		{"nothing", "", 200, 200, 407, 407},
		{"right", basic("anna", secret), 200, 200, 200, 200},
		{"no tenant's user", basic("carl", secret), 200, 200, 403, 200},
		{"wrong password", basic("anna", "x"), 200, 407, 407, 407},
		{"no such user", basic("nobody", secret), 200, 407, 407, 407},
		{"twice", basic("anna", secret) + basic("anna", secret), 200, 407, 407, 407},
		{"not base64", "Proxy-Authorization: Basic ***\r\n", 200, 407, 407, 407},
		{"another scheme", "Proxy-Authorization: Negotiate abcd\r\n", 200, 407, 407, 407},
		{"a token", "Proxy-Authorization: Bearer a.b.c\r\n", 200, 407, 407, 407},
	} {
		for _, mode := range []struct {
			name  string
			mode  policy.Mode
			rules string
			want  int
		}{
			{"off", policy.Off, allowLoopback, test.off},
			{"optional", policy.Optional, allowLoopback, test.optional},
			{"optional and denied", policy.Optional, "other.test\n", test.denied},
			{"required", policy.Required, allowLoopback, test.required},
		} {
			t.Run(test.name+" "+mode.name, func(t *testing.T) {
				t.Parallel()
				g := asking(t, mode.mode, mode.rules)
				ahead := strings.Replace(prefix, "\r\nHost", "\r\n"+basic("anna", secret)+"Host", 1)
				for range 2 {
					for _, path := range []string{"", ahead} {
						for _, request := range []string{"GET http://" + server + "/ HTTP/1.1\r\nHost: x\r\n", "CONNECT " + server + " HTTP/1.1\r\n"} {
							c := g.dial(t)
							if path != "" {
								c.send(t, "%s", path)
								c.response(t, "GET")
							}
							c.send(t, "%s", request+test.fields+"\r\n")
							head := c.head(t)
							assert.Contains(t, head, fmt.Sprintf("HTTP/1.1 %d ", mode.want))
							assert.Equal(t, mode.want == 407, strings.Contains(head, challenges), head)
							c.Close()
						}
					}
				}
				assert.NotContains(t, g.log.String(), secret)
				assert.NotContains(t, g.log.String(), base64.StdEncoding.EncodeToString([]byte("anna:"+secret)))
			})
		}
	}
	t.Cleanup(func() { assert.NotContains(t, *seen.Load(), "Authorization") })
}

// What a client has shown holds for that request alone: the next of the connection has to show
// it again, may show another, and goes over another's connection never.
func TestCredentialsOfARequest(t *testing.T) {
	server, _ := counting(t)
	g := asking(t, policy.Required, "")
	c := g.dial(t)
	get := func(fields string) (int, string) {
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n%s\r\n", server, fields)
		resp, body := c.response(t, "GET")
		return resp.StatusCode, body
	}
	for _, step := range []struct {
		fields string
		status int
		body   string // the number of the connection to the server
	}{
		{basic("anna", secret), 200, "1"}, {basic("bert", secret), 200, "2"}, {"", 407, ""}, {basic("anna", "x"), 407, ""},
		{basic("anna", secret), 200, "1"}, {basic("bert", secret), 200, "2"}, {basic("carl", secret), 403, ""}, {"", 407, ""},
	} {
		status, body := get(step.fields)
		assert.Equal(t, step.status, status, step.fields)
		if status == 200 {
			assert.Equal(t, step.body, body, step.fields)
		}
	}
	nettest.Eventually(t, "the log has it", func() bool { return strings.Count(g.log.String(), "\n") == 8 })
	for _, want := range []string{`"tenant":"a","user":"anna","method":"GET"`, `"tenant":"b","user":"bert",`, `"tenant":"default","user":"carl",`, `"tenant":"default","method":"GET"`} {
		assert.Contains(t, g.log.String(), want)
	}
}

// What stands behind a CONNECT that is refused was meant for the tunnel: it is no request.
func TestNothingBehindARefusedConnect(t *testing.T) {
	server, seen := counting(t)
	for _, path := range []string{"", strings.Replace(prefix, "\r\nHost", "\r\n"+basic("anna", secret)+"Host", 1)} {
		g := asking(t, policy.Required, "")
		c := g.dial(t)
		if path != "" {
			c.send(t, "%s", path)
			c.response(t, "GET")
		}
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\nGET http://%s/smuggled HTTP/1.1\r\nHost: x\r\n%s\r\n", server, server, basic("anna", secret))
		resp, err := http.ReadResponse(c.r, &http.Request{Method: "CONNECT"})
		require.NoError(t, err)
		assert.Equal(t, 407, resp.StatusCode)
		assert.True(t, resp.Close)
		rest, _ := bufio.NewReader(c.r).ReadString(0)
		assert.NotContains(t, rest, "HTTP/1.1")
		// With nothing behind it the connection goes on: a client shows what it has then.
		c = g.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
		resp, _ = c.response(t, "CONNECT-refused")
		require.Equal(t, 407, resp.StatusCode)
		c.send(t, "CONNECT %s HTTP/1.1\r\n%s\r\n", server, basic("anna", secret))
		assert.Contains(t, c.head(t), " 200 ")
		c.Close()
	}
	assert.NotContains(t, *seen.Load(), "smuggled")
}

// Nor is what has come while the password of the CONNECT was checked.
func TestNothingBehindAConnectThatIsChecked(t *testing.T) {
	server, seen := counting(t)
	g := asking(t, policy.Required, "")
	slow, err := bcrypt.GenerateFromPassword([]byte(secret), 11)
	require.NoError(t, err)
	users, err := auth.ParseUsers("users", "anna:"+string(slow)+"\n")
	require.NoError(t, err)
	g.SetGeneration(policy.Set{Authentication: policy.Authentication{Mode: policy.Required, Users: users}, Rest: policy.Tenant{Rules: g.ruleset(t, allowLoopback)}}.Generation())
	good := g.dial(t) // whose verdict is remembered from here on
	good.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n%s\r\n", server, basic("anna", secret))
	require.Contains(t, good.head(t), " 200 ")
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n%s\r\n", server, basic("anna", "wrong"))
	nettest.Eventually(t, "it is being checked", func() bool {
		return slices.ContainsFunc(g.Open(), func(o door.Open) bool { return o.State == door.Request })
	})
	c.send(t, "GET http://%s/smuggled HTTP/1.1\r\nHost: x\r\n%s\r\n", server, basic("anna", secret))
	resp, err := http.ReadResponse(c.r, &http.Request{Method: "CONNECT"})
	require.NoError(t, err)
	assert.Equal(t, 407, resp.StatusCode)
	assert.True(t, resp.Close)
	rest, _ := bufio.NewReader(c.r).ReadString(0)
	assert.NotContains(t, rest, "HTTP/1.1 200")
	assert.NotContains(t, *seen.Load(), "smuggled")
}

// ruleset parses rules.
func (g *gateway) ruleset(t testing.TB, text string) *acl.Policy {
	t.Helper()
	p, err := acl.Parse(text)
	require.NoError(t, err)
	return p
}
