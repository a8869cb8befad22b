package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// What goes by a parent is revoked as everything else, also where that has resolved the name, and no
// address is known here.
func TestParentRevoked(t *testing.T) {
	t.Parallel()
	const allowed = "*.test\n127.0.0.0/8"
	echo := greeter(t, "")
	asked := make(chan struct{}, 1)
	p := newParent(t, nil, func(p *parentProxy, c net.Conn, r *bufio.Reader, head string) {
		if head[:4] == "GET " {
			asked <- struct{}{}
			io.Copy(io.Discard, r) // it takes its time
			return
		}
		goes(p, c, r, head)
	})
	for _, tt := range []struct {
		name           string
		before, byName bool // whether names go to the parent, before and then
		rules          string
		revoked        string // "": it goes on
	}{
		{"nothing changes", true, true, allowed, ""},
		{"nothing changes, by address", false, false, allowed, ""},
		{"its name is denied", true, true, "!a.test\n" + allowed, "line 1 !a.test"},
		{"its name is denied, by address", false, false, "!a.test\n" + allowed, "line 1 !a.test"},
		{"another name is denied", true, true, "!b.test\n" + allowed, ""},
		{"addresses are judged here", true, false, allowed, "a parent proxy has resolved the name, and addresses are judged here from now on; ask anew"},
	} {
		for _, method := range []string{"CONNECT", "SOCKS", "GET"} {
			if method == "GET" && !tt.before { // which is a tunnel to the parent
				continue
			}
			t.Run(tt.name+", "+method, func(t *testing.T) {
				by := func(byName bool) policy.Way {
					return policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}, ByName: byName}
				}
				g := startSocks(t, "", loopbackNames, nil)
				g.by(t, allowed, by(tt.before))
				var c net.Conn
				switch method {
				case "GET":
					r := g.gateway.dial(t)
					r.send(t, "GET http://a.test:%d/ HTTP/1.1\r\nHost: x\r\n\r\n", echo.Port())
					soon(t, asked)
					c = r
				case "CONNECT":
					r, _ := g.tunnelTo(t, fmt.Sprintf("a.test:%d", echo.Port()))
					says(t, r, "x")
					hears(t, r, "x")
					c = r
				default:
					c = g.dial(t)
					says(t, c, greets+asksFor(fmt.Sprintf("a.test:%d", echo.Port()))+"x")
					hears(t, c, ok+made+"x")
				}
				nettest.Eventually(t, "it has a server", func() bool { o := g.Open(); return len(o) == 1 && o[0].Addr.Port() == echo.Port() })
				g.by(t, tt.rules, by(tt.byName))
				if tt.revoked == "" {
					assert.Zero(t, g.Revoke())
					c.Close()
					return
				}
				assert.Equal(t, 1, g.Revoke())
				b, _ := io.ReadAll(c)
				if method == "GET" {
					assert.Contains(t, string(b), "HTTP/1.1 403 ")
				}
				line := g.lines(t, 1)[0]
				assert.Contains(t, line, `"revoked":"`+tt.revoked)
				require.Contains(t, line, `"parent":"http://`)
			})
		}
	}
}
