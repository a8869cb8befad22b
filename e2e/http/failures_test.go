//go:build linux

package http

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Of several addresses the ones that don't answer are passed over, long before
// the time to connect is over.
func TestNextAddressWhenOneFails(t *testing.T) {
	o := newOutside(t)
	const a4, a6, b4, b6 = nettest.ServerAV4, nettest.ServerAV6, nettest.ServerBV4, nettest.ServerBV6
	serve(t, o.ServerA.Listen(a4+":81"), nil, witness("server-a"))
	serve(t, o.ServerA.Listen("["+a6+"]:81"), nil, witness("server-a"))
	o.ServerB.Address("eth0", "203.0.113.21/24", "203.0.113.22/24", "2001:db8:2::21/64", "2001:db8:2::22/64")
	for _, addr := range []string{"203.0.113.21", "2001:db8:2::21"} {
		o.Gateway.Blackhole(addr)
	}
	for _, addr := range []string{"203.0.113.22", "2001:db8:2::22"} {
		o.Gateway.Unreachable(addr)
	}
	o.gateway(t, "*.example.com\n", "--connect-timeout", "60s")
	const saw4, saw6 = "server-a saw " + nettest.SourceV4, "server-a saw " + nettest.SourceV6
	for name, c := range map[string]struct {
		addrs []string
		want  string
	}{
		"dropped-6-4":     {[]string{"2001:db8:2::21", a4}, saw4},
		"dropped-4-4":     {[]string{"203.0.113.21", a4}, saw4},
		"dropped-4-6":     {[]string{"203.0.113.21", a6}, saw6},
		"unreachable-6-4": {[]string{"2001:db8:2::22", a4}, saw4},
		"unreachable-4-4": {[]string{"203.0.113.22", a4}, saw4},
		"refused-6-4":     {[]string{b6, a4}, saw4},
		"refused-4-4":     {[]string{b4, a4}, saw4},
		"one-of-each":     {[]string{"203.0.113.21", "2001:db8:2::22", b4, b6, "203.0.113.22", a6}, saw6},
	} {
		o.DNS.Set(name+".example.com", nettest.Addrs(c.addrs...))
		for _, mode := range []string{"--no-proxytunnel", "--proxytunnel"} {
			got := o.curl(t, mode, "http://"+name+".example.com:81/")
			assert.Equal(t, c.want, lastLine(got.Out), "%s %s: %s", mode, name, got.Err)
			assert.Less(t, got.Took, 10*time.Second, name)
		}
	}
}

func TestConnectFailures(t *testing.T) {
	o := newOutside(t)
	o.ServerB.Address("eth0", "203.0.113.21/24", "203.0.113.22/24")
	o.Gateway.Blackhole("203.0.113.21")
	o.Gateway.Unreachable("203.0.113.22")
	o.gateway(t, "203.0.113.0/24\n2001:db8::/32\n", "--connect-timeout", "1s", "--source", nettest.SourceV4)
	wire := o.ServerA.Capture(t)
	for host, c := range map[string]struct{ status, class string }{
		"203.0.113.20:81": {"502 Bad Gateway: connect to 203.0.113.20:81: connection refused", "connection_refused"},
		"203.0.113.21:80": {"504 Gateway Timeout: connect to 203.0.113.21:80: i/o timeout", "connection_timeout"},
		"203.0.113.22:80": {"502 Bad Gateway: connect to 203.0.113.22:80: no route to host", "destination_ip_unroutable"},
		"[2001:db8:2::10]:80": {
			"502 Bad Gateway: no IPv6 source address for 2001:db8:2::10: EGRESS_SOURCE is 198.51.100.50", "destination_ip_unroutable",
		},
	} {
		for _, mode := range []string{"--no-proxytunnel", "--proxytunnel"} {
			got := o.curl(t, mode, "http://"+host+"/")
			assert.Equal(t, "HTTP/1.1 "+c.status, statusLine(got.Out), got.Err)
			assert.Contains(t, got.Out, "\r\nProxy-Status: sluice; error="+c.class+"; ")
		}
	}
	assert.Empty(t, o.Seen(t, wire, nettest.ServerAV6), "no default route stands in for the missing source")
}

// A name of both families is reached by the one that has a source.
func TestSourceOfOneFamily(t *testing.T) {
	o := newOutside(t)
	o.DNS.Set("both.example.com", nettest.Addrs(nettest.ServerAV4, nettest.ServerAV6))
	for _, source := range []string{nettest.SourceV4, nettest.SourceV6} {
		t.Run(source, func(t *testing.T) {
			o.gateway(t, "*.example.com\n", "--source", source)
			for _, scheme := range []string{"http://", "https://"} {
				got := o.curl(t, scheme+"both.example.com/")
				assert.Equal(t, "server-a saw "+source, lastLine(got.Out), got.Err)
			}
		})
	}
}

// As the egress router's pod specification has it: variables only, and a length
// behind the address.
func TestEgressRouterVariables(t *testing.T) {
	o := newOutside(t)
	env := []string{
		"EGRESS_SOURCE=" + nettest.SourceV4 + "/24",
		"EGRESS_HTTP_PROXY_DESTINATION=!203.0.113.20\n203.0.113.0/24\n",
	}
	start(t, program.Setup{Netns: o.Egress, Env: env})
	got := o.curl(t, "http://203.0.113.10/")
	assert.Equal(t, "server-a saw "+nettest.SourceV4, lastLine(got.Out), got.Err)
	got = o.curl(t, "http://203.0.113.20/")
	assert.Equal(t, "HTTP/1.1 403 Egress denied: line 1 !203.0.113.20", statusLine(got.Out))
}

func TestSourceNotOnTheHost(t *testing.T) {
	o := nettest.NewTopology(t)
	for _, source := range []string{"198.51.100.51", "2001:db8:1::51"} {
		g := program.Launch(t, program.Setup{Netns: o.Egress, Rules: "*\n", Args: []string{"--source", nettest.SourceV4, "--source", source}})
		assert.Equal(t, 2, g.Exit())
		require.Regexp(t, `^EGRESS_SOURCE `+source+` is not an address of this host \(it has .*\b`+nettest.SourceV4+
			`\b.*\): let sluice-netsetup assign it first, or name one of these\n$`, g.Stderr())
	}
}
