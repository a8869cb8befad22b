//go:build linux

package http

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// privateDenied lets names of example.com through unless they lead inside.
const privateDenied = "!10.0.0.0/8\n!fd00::/8\n*.example.com\n"

func TestNamesAreFollowed(t *testing.T) {
	o := newOutside(t)
	const a4, a6, far4, far6 = nettest.ServerAV4, nettest.ServerAV6, nettest.FarV4, nettest.FarV6
	const saw4, saw6 = "server-a saw " + nettest.SourceV4, "server-a saw " + nettest.SourceV6
	o.DNS.Set("elsewhere.example.org", nettest.Addrs(a4))
	o.gateway(t, privateDenied)
	wire := o.ServerB.Capture(t)
	for name, c := range map[string]struct {
		answers []nettest.Answer
		want    string
	}{
		"mixed":            {answers: []nettest.Answer{nettest.Addrs(far4, a4)}, want: saw4},
		"mixed-last":       {answers: []nettest.Answer{nettest.Addrs(a4, far4)}, want: saw4},
		"mixed-families":   {answers: []nettest.Answer{nettest.Addrs(far6, a4)}, want: saw4},
		"mixed-families-6": {answers: []nettest.Answer{nettest.Addrs(a6, far4)}, want: saw6},
		"alias":            {answers: []nettest.Answer{nettest.CNAME("one.example.net", "two.example.net").To(a4)}, want: saw4},
		"alias-asked-on":   {answers: []nettest.Answer{nettest.CNAME("elsewhere.example.org")}, want: saw4},
		"cut-short":        {answers: []nettest.Answer{nettest.Addrs(a4).Truncated()}, want: saw4},
		"spoofed": {answers: []nettest.Answer{nettest.Addrs(a4).After(
			nettest.WrongID, nettest.WrongQuestion, nettest.WrongType, nettest.NotResponse, nettest.Noise)}, want: saw4},
	} {
		o.DNS.Set(name+".example.com", c.answers...)
		for _, scheme := range []string{"http://", "https://"} {
			got := o.curl(t, scheme+name+".example.com/")
			assert.Equal(t, c.want, lastLine(got.Out), "%s%s: %s\n%s", scheme, name, got.Err, o.DNS)
		}
	}
	assert.True(t, slices.ContainsFunc(o.DNS.Queries(), func(q nettest.Query) bool {
		return q.Name == "cut-short.example.com" && q.Transport == "tcp"
	}), "a truncated answer is asked for again by TCP")
	for _, addr := range []string{far4, far6} {
		assert.Empty(t, o.Seen(t, wire, addr))
	}
}

// The answer changes between the verdict and the connection, and between two
// requests: the address judged is the address dialled.
func TestRebinding(t *testing.T) {
	o := newOutside(t)
	good, bad := nettest.Addrs(nettest.ServerAV4).TTL(0), nettest.Addrs(nettest.FarV4).TTL(0)
	o.gateway(t, privateDenied)
	wire := o.ServerB.Capture(t)
	const denied = "HTTP/1.1 403 Egress denied: line 1 !10.0.0.0/8"
	const saw = "server-a saw " + nettest.SourceV4
	for _, scheme := range []string{"http://", "https://"} {
		t.Run(scheme, func(t *testing.T) {
			o.DNS.Set("rebind.example.com", good, bad)
			o.DNS.Forget()
			assert.Equal(t, saw, lastLine(o.curl(t, scheme+"rebind.example.com/").Out))
			require.Equal(t, 2, o.DNS.Asked("rebind.example.com"), "A and AAAA once: %s", o.DNS)
			assert.Equal(t, denied, statusLine(o.curl(t, scheme+"rebind.example.com/").Out))
			o.DNS.Set("rebind.example.com", bad, good)
			assert.Equal(t, denied, statusLine(o.curl(t, scheme+"rebind.example.com/").Out))
			assert.Equal(t, saw, lastLine(o.curl(t, scheme+"rebind.example.com/").Out))
		})
	}
	assert.Empty(t, o.Seen(t, wire, nettest.FarV4))
}

func TestTimeToLive(t *testing.T) {
	o := newOutside(t)
	o.gateway(t, privateDenied)
	for name, c := range map[string]struct {
		ttl   uint32
		asked int
	}{
		"ttl-0":  {0, 3 * 2}, // A and AAAA each time
		"ttl-60": {60, 2},
	} {
		o.DNS.Set(name+".example.com", nettest.Addrs(nettest.ServerAV4).TTL(c.ttl))
		for range 3 {
			got := o.curl(t, "http://"+name+".example.com/")
			assert.Equal(t, "server-a saw "+nettest.SourceV4, lastLine(got.Out), got.Err)
		}
		assert.Equal(t, c.asked, o.DNS.Asked(name+".example.com"), name)
	}
}

func TestNamesThatFail(t *testing.T) {
	o := newOutside(t)
	o.gateway(t, privateDenied, "--dns-timeout", "1s")
	const server = nettest.NodeV4 + ":53"
	for name, c := range map[string]struct {
		answer        nettest.Answer
		status, class string
	}{
		"nx":     {nettest.NXDomain(), "502 Bad Gateway: look up nx.example.com: no such name (NXDOMAIN)", "dns_error"},
		"none":   {nettest.NoData(), "502 Bad Gateway: look up none.example.com: no address (NODATA)", "dns_error"},
		"broken": {nettest.ServFail(), "502 Bad Gateway: look up broken.example.com at " + server + ": SERVFAIL", "dns_error"},
		"silent": {nettest.Silent(), "504 Gateway Timeout: look up silent.example.com at " + server + ": no answer in 1s", "dns_timeout"},
	} {
		o.DNS.Set(name+".example.com", c.answer)
		for _, scheme := range []string{"http://", "https://"} {
			got := o.curl(t, scheme+name+".example.com/")
			assert.Equal(t, "HTTP/1.1 "+c.status, statusLine(got.Out), got.Err)
			assert.Contains(t, got.Out, "\r\nProxy-Status: sluice; error="+c.class+"; ")
		}
	}
}
