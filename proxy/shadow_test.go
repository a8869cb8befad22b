package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Shadow rules change nothing, and the log says what they would change; nothing is resolved for
// them.
func TestShadow(t *testing.T) {
	server, _ := counting(t)
	at := netip.MustParseAddrPort(server)
	echo := netip.MustParseAddrPort(echoServer(t))
	tests := []struct {
		status         int
		rules, shadow  string
		host           string
		says           string // in the log; "": no difference
		denies, allows uint64
	}{
		{200, allowLoopback, allowLoopback, "127.0.0.1", "", 0, 0},
		{200, allowLoopback, "", "127.0.0.1", `"shadow":"deny","shadow_line":0`, 1, 0},
		{200, allowLoopback, "# no\n!127.0.0.1\n*", "127.0.0.1", `"shadow":"deny","shadow_line":2`, 1, 0},
		{403, "", "\n\n" + allowLoopback, "127.0.0.1", `"shadow":"allow","shadow_line":3`, 0, 1},
		{403, "!denied.test\n*", "!10.0.0.0/8\n*.test", "denied.test", `"shadow":"depends","shadow_line":2`, 0, 0},
		{403, "!denied.test\n*", "a.test", "denied.test", "", 0, 0},
		{200, allowLoopback, "!127.0.0.0/8\n*", "a.test", `"shadow":"deny","shadow_line":1`, 1, 0},
		{200, allowLoopback, "!b.test\n" + allowLoopback, "a.test", "", 0, 0},
		{403, "192.0.2.1", allowLoopback, "a.test", `"shadow":"allow","shadow_line":1`, 0, 1},
	}
	for _, tt := range tests {
		for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
			for _, method := range []string{"GET", "CONNECT"} {
				t.Run(fmt.Sprintf("%q beside %q, %s on the %s", tt.shadow, tt.rules, method, path), func(t *testing.T) {
					g := start(t, "", names{"a.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
					parse := func(text string) *acl.Policy {
						return g.ruleset(t, text).WithGuard(acl.Guard{Mode: acl.GuardOff})
					}
					shadow := policy.NewShadow(parse(tt.shadow))
					g.SetGeneration(policy.New(policy.Tenant{Rules: parse(tt.rules), Shadow: shadow}))
					c := g.dial(t)
					if method == "GET" {
						c.send(t, "%sGET http://%s:%d/ HTTP/1.1\r\nHost: x\r\n\r\n", ahead, tt.host, at.Port())
					} else {
						c.send(t, "%sCONNECT %s:%d HTTP/1.1\r\n\r\n", ahead, tt.host, echo.Port())
					}
					n := 1
					if ahead != "" {
						n++
						c.response(t, "GET")
					}
					require.Contains(t, c.head(t), fmt.Sprint(" ", tt.status, " "))
					c.Close()
					line := g.lines(t, n)[n-1]
					if tt.says == "" {
						assert.NotContains(t, line, "shadow")
					} else {
						assert.Contains(t, line, tt.says)
					}
					if ahead != "" {
						return // what went ahead was counted too
					}
					var denies, allows uint64
					for _, l := range shadow.Lines() {
						denies += l.WouldDeny
						allows += l.WouldAllow
					}
					assert.Equal(t, [2]uint64{tt.denies, tt.allows}, [2]uint64{denies, allows})
					assert.Equal(t, tt.host == "a.test", g.wasAsked("a.test"))
					assert.False(t, g.wasAsked("denied.test"))
				})
			}
		}
	}
}

// What is counted goes on while the text stays, and begins anew with another.
func TestShadowKeeps(t *testing.T) {
	of := func(text string) *policy.Shadow {
		p, err := acl.Parse(text)
		require.NoError(t, err)
		return policy.NewShadow(p)
	}
	a := of("!a.test\n*")
	target, err := acl.ParseTarget("a.test:80")
	require.NoError(t, err)
	a.Count(a.Judge(target, nil, acl.Allow))
	want := []policy.ShadowLine{{Line: 1, Text: "!a.test", WouldDeny: 1}}
	assert.Equal(t, want, a.Lines())
	b := of("!a.test\n*")
	b.Keep(a)
	assert.Equal(t, want, b.Lines())
	c := of("# another\n!a.test\n*")
	c.Keep(b)
	assert.Empty(t, c.Lines())
	var none *policy.Shadow
	none.Count(policy.Shadowed{Differs: true})
	none.Keep(a)
	assert.Nil(t, none.Lines())
	assert.Nil(t, policy.NewShadow(nil))
}
