//go:build linux

package http

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// lastLine of an answer is its body here.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// statusLine is the first of the answer, the proxy's own when it is a denial.
func statusLine(s string) string {
	line, _, _ := strings.Cut(s, "\r\n")
	return line
}

func TestServerSeesTheEgressSource(t *testing.T) {
	o := newOutside(t)
	o.DNS.Set("v4.example.com", nettest.Addrs(nettest.ServerAV4))
	o.DNS.Set("v6.example.com", nettest.Addrs(nettest.ServerAV6))
	o.DNS.Set("both.example.com", nettest.Addrs(nettest.ServerAV4, nettest.ServerAV6))
	o.gateway(t, "*.example.com\n203.0.113.0/24\n2001:db8:2::/64\n")
	wire := o.ServerA.Capture(t)
	for _, c := range []struct{ host, source string }{
		{nettest.ServerAV4, nettest.SourceV4},
		{"[" + nettest.ServerAV6 + "]", nettest.SourceV6},
		{"v4.example.com", nettest.SourceV4},
		{"v6.example.com", nettest.SourceV6},
		{"both.example.com", nettest.SourceV6}, // RFC 8305 section 4
	} {
		for _, url := range []string{"http://" + c.host + "/", "https://" + c.host + "/"} {
			got := o.curl(t, url)
			assert.Equal(t, "server-a saw "+c.source, lastLine(got.Out), "%s: %s", url, got.Err)
		}
	}
	both := o.curl(t, "--proxytunnel", "http://v4.example.com/")
	assert.Equal(t, "server-a saw "+nettest.SourceV4, lastLine(both.Out), both.Err)

	for addr, source := range map[string]string{
		nettest.ServerAV4: nettest.SourceV4, nettest.ServerAV6: nettest.SourceV6,
	} {
		seen := o.Seen(t, wire, addr)
		require.NotEmpty(t, seen)
		for _, p := range seen {
			if p.Dst.Addr().String() == addr {
				assert.Equal(t, source, p.Src.Addr().String(), "%s", p)
			}
		}
	}
}

func TestDeniedTargetSeesNoPacket(t *testing.T) {
	o := newOutside(t)
	o.DNS.Set("b.example.com", nettest.Addrs(nettest.ServerBV4, nettest.ServerBV6))
	o.DNS.Set("denied.example.com", nettest.Addrs(nettest.ServerBV4))
	o.DNS.Set("other.example.net", nettest.Addrs(nettest.ServerBV4))
	o.DNS.Set("allowed.example.com", nettest.Addrs(nettest.ServerAV4))
	o.gateway(t, `!denied.example.com
!203.0.113.20
!2001:db8:2::20
!10.0.0.0/8
*.example.com
`)
	wire := o.ServerB.Capture(t)
	const b4, b6, far = nettest.ServerBV4, "[" + nettest.ServerBV6 + "]", nettest.FarV4
	for _, c := range []struct {
		host, reason, class string
		asked               int
	}{
		{"denied.example.com", "line 1 !denied.example.com", "http_request_denied", 0},
		{"DENIED.Example.Com.", "line 1 !denied.example.com", "http_request_denied", 0},
		{"other.example.net", "no rule allows it", "http_request_denied", 0},
		{"b.example.com", "line 2 !203.0.113.20", "destination_ip_prohibited", 2},
		{b4, "line 2 !203.0.113.20", "destination_ip_prohibited", 0},
		{b6, "line 3 !2001:db8:2::20", "destination_ip_prohibited", 0},
		{"[::ffff:" + b4 + "]", "line 2 !203.0.113.20", "destination_ip_prohibited", 0},
		{far, "line 4 !10.0.0.0/8", "destination_ip_prohibited", 0},
		{"[" + nettest.FarV6 + "]", "no rule allows it", "http_request_denied", 0},
		{"127.0.0.1:9090", "no rule allows it", "http_request_denied", 0},
	} {
		for _, scheme := range []string{"http://", "https://"} {
			t.Run(scheme+c.host, func(t *testing.T) {
				o.DNS.Forget()
				got := o.curl(t, scheme+c.host+"/")
				assert.Equal(t, "HTTP/1.1 403 Egress denied: "+c.reason, statusLine(got.Out), got.Err)
				assert.Contains(t, got.Out, "\r\nProxy-Status: sluice; error="+c.class+"; details=\"Egress denied: "+c.reason+"\"; generation=1; policy=\"")
				name := strings.ToLower(strings.TrimSuffix(c.host, "."))
				if scheme == "http://" || c.asked == 0 { // the second look-up is cached
					assert.Equal(t, c.asked, o.DNS.Asked(name), "%s", o.DNS)
				}
			})
		}
	}
	for _, addr := range []string{b4, nettest.ServerBV6, far, nettest.FarV6} {
		assert.Empty(t, o.Seen(t, wire, addr), addr)
	}
	got := o.curl(t, "http://allowed.example.com/")
	assert.Equal(t, "server-a saw "+nettest.SourceV4, lastLine(got.Out), got.Err)
}

// What the gateway itself listens on, and what its pod may reach for the sake of
// the cluster, is not for clients.
func TestGuardHoldsUnderWildcard(t *testing.T) {
	o := newOutside(t)
	o.DNS.Set("rebound.example.com", nettest.Addrs("127.0.0.1", "169.254.169.254", nettest.PodV4))
	o.gateway(t, "*\n")
	for host, reason := range map[string]string{
		"127.0.0.1:9090":           "guard loopback",
		"[::1]:9090":               "guard loopback",
		"[::ffff:127.0.0.1]:9090":  "guard loopback",
		"169.254.169.254":          "guard link-local",
		nettest.PodV4 + ":8080":    "guard own address",
		nettest.SourceV4 + ":80":   "guard own address",
		"0.0.0.0:9090":             "guard unspecified",
		"224.0.0.1":                "guard multicast",
		"rebound.example.com:9090": "guard loopback",
		"[64:ff9b::7f00:1]:9090":   "guard loopback",
		"[" + nettest.PodV6 + "]":  "guard own address",
	} {
		for _, scheme := range []string{"http://", "https://"} {
			got := o.curl(t, scheme+host+"/metrics")
			assert.Equal(t, "HTTP/1.1 403 Egress denied: "+reason, statusLine(got.Out), scheme+host+got.Err)
		}
	}
	assert.Equal(t, "server-b saw "+nettest.SourceV4, lastLine(o.curl(t, "http://"+nettest.FarV4+"/").Out))
}
