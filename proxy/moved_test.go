package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Nothing goes over a connection that was made for another tenant, or in another way than its client has
// by the time when it is there. A reload that changes nothing of that changes nothing.
func TestMovedWhileConnecting(t *testing.T) {
	ca := nettest.NewCA(t)
	for name, tt := range map[string]struct {
		want   int
		change func(*policy.Tenant)
	}{
		"nothing":                {200, func(*policy.Tenant) {}},
		"it is another tenant's": {503, func(p *policy.Tenant) { p.Name = "other" }},
		"it has another source":  {503, func(p *policy.Tenant) { p.Sources = policy.NewSources([]netip.Addr{netip.MustParseAddr("127.0.0.9")}) }},
	} {
		t.Run(name, func(t *testing.T) {
			reached, goOn := make(chan struct{}), make(chan struct{})
			var asked atomic.Bool
			server := rawOrigin(t, func(c *rawClient) {
				close(reached)
				<-goOn
				s := tls.Server(c.TCPConn, &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}})
				if _, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
					asked.Store(true)
					fmt.Fprint(s, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			g := start(t, allowLoopback, nil, func(o *Options) { o.TLS = &tls.Config{RootCAs: ca.Pool} })
			c := g.dial(t)
			c.send(t, "GET https://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
			<-reached
			tenant := g.tenant
			tt.change(&tenant)
			g.SetGeneration(policy.New(tenant))
			close(goOn)
			resp, _ := c.response(t, "GET")
			assert.Equal(t, tt.want, resp.StatusCode)
			assert.Equal(t, tt.want == 200, asked.Load())
		})
	}
}
