package netsetup

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseKeepRoutes(t *testing.T) {
	t.Parallel()
	got, ps := ParseKeepRoutes("10.96.0.0/12, fd00:96::/112\n10.43.0.10 10.96.0.7/12")
	require.Empty(t, ps)
	require.Equal(t, []netip.Prefix{pp("10.96.0.0/12"), pp("fd00:96::/112"), pp("10.43.0.10/32")}, got)

	const invalid = "SLUICE_KEEP_ROUTE invalid: "
	for text, want := range map[string]string{
		"":                 "1: " + invalid + "name a network of the cluster, ADDR/LEN",
		"x":                `1: ` + invalid + `"x" is not ADDR/LEN or ADDR`,
		"10.0.0.0/8\na/8":  `2: ` + invalid + `"a/8" is not ADDR/LEN or ADDR`,
		"0.0.0.0/0":        `1: ` + invalid + `"0.0.0.0/0" is everything: nothing would leave by EGRESS_GATEWAY; name the cluster's networks`,
		"224.0.0.0/4":      `1: ` + invalid + `nothing is routed to "224.0.0.0/4"`,
		"::ffff:10.0.0.0":  `1: ` + invalid + `"::ffff:10.0.0.0" is an IPv4 address in IPv6 clothes; write 10.0.0.0`,
		"fe80::1%eth0":     `1: ` + invalid + `"fe80::1%eth0" has a zone; what is link-local needs no route`,
		"127.0.0.0/8 10/8": `1: ` + invalid + `nothing is routed to "127.0.0.0/8"` + "\n" + `1: ` + invalid + `"10/8" is not ADDR/LEN or ADDR`,
	} {
		_, ps := ParseKeepRoutes(text)
		require.Equal(t, want, strings.Join(msgs(ps), "\n"), text)
	}
}

func TestKeepRoutesOfTheLink(t *testing.T) {
	t.Parallel()
	c := config(t, HTTPProxy, "192.0.2.10/24", "192.0.2.1", "")
	c.KeepRoutes = []netip.Prefix{pp("192.0.0.0/8"), pp("192.0.2.128/25")}
	require.Equal(t, []string{"0: SLUICE_KEEP_ROUTE invalid: 192.0.2.128/25 is on the link of EGRESS_SOURCE 192.0.2.10/24 with its gateway 192.0.2.1; it cannot leave by the cluster as well"}, msgs(c.Check()))
}

func TestParseNameservers(t *testing.T) {
	t.Parallel()
	require.Equal(t, []netip.Addr{aa("10.96.0.10"), aa("fd00:96::a"), aa("169.254.20.10")}, ParseNameservers(
		"search svc.cluster.local\r\nnameserver 10.96.0.10\r\n# nameserver 192.0.2.1\nnameserver\tfd00:96::a # the same, IPv6\n"+
			"nameserver 10.96.0.10\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver dns.test\nnameserver\noptions ndots:5\nnameserver 169.254.20.10"))
}

// calico is a pod whose only way anywhere is the default route, by an address that
// is nobody's.
func calico() State {
	s := pod(macvlan0)
	s.Addrs = []Addr{{"eth0", pp("10.244.1.7/32")}, {"eth0", pp("fd00:244::7/128")}}
	s.Routes = []Route{
		{Table: tableMain, Dst: pp("0.0.0.0/0"), Gateway: aa("169.254.1.1"), Link: "eth0", MTU: 1440, OnLink: true},
		{Table: tableMain, Dst: pp("169.254.1.1/32"), Link: "eth0"},
		{Table: tableMain, Dst: pp("::/0"), Gateway: aa("fe80::ecee:eeff:feee:eeee"), Link: "eth0", Metric: 1024},
		{Table: tableMain, Dst: pp("fd00:244::7/128"), Link: "eth0", Metric: 256, kernel: true},
		{Table: tableMain, Dst: pp("fe80::/64"), Link: "eth0", Metric: 256, kernel: true},
	}
	return s
}

func TestKeptRoutes(t *testing.T) {
	t.Parallel()
	c := config(t, HTTPProxy, "192.0.2.10/24 2001:db8::a", "192.0.2.1 2001:db8::1", "")
	c.Nameservers = []netip.Addr{aa("10.96.0.10"), aa("fd00:96::a"), aa("192.0.2.53")}
	c.Service = aa("10.96.0.1")
	p, err := NewPlan(c, calico())
	require.NoError(t, err)
	golden(t, "nameservers.sh", p.String())
	p, err = NewPlan(c, after(t, c, calico()))
	require.NoError(t, err)
	require.Empty(t, p.Changes, "it runs again")
	require.Len(t, p.Warnings, 2)

	c.KeepRoutes = []netip.Prefix{pp("10.96.0.0/12"), pp("10.244.0.0/16"), pp("fd00::/16")}
	p, err = NewPlan(c, after(t, c, calico()))
	require.NoError(t, err)
	require.Empty(t, p.Changes, "it runs again")
	require.Empty(t, p.Warnings)
	now := after(t, c, calico())
	p, err = NewPlan(c, calico())
	require.NoError(t, err)
	golden(t, "keep.sh", p.String())

	// Nobody wants to keep anything any more, or a family has no source: they go.
	c.KeepRoutes, c.Nameservers, c.Service = nil, nil, netip.Addr{}
	c.Sources = c.Sources[:1]
	p, err = NewPlan(c, now)
	require.NoError(t, err)
	golden(t, "move-keep.sh", p.String())
}

// TestWhatIsLost: the warning says what loses its way, and is silent where the
// cluster's routes, or the settings, lead there.
func TestWhatIsLost(t *testing.T) {
	t.Parallel()
	const (
		begin = "only the default route by eth0 led "
		goes  = "; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route "
		or    = ", or whatever the cluster's networks are"
	)
	flannel := pod(macvlan0)
	flannel.Routes = append(flannel.Routes[:2:2], Route{Table: tableMain, Dst: pp("10.42.0.0/16"), Gateway: aa("10.128.0.1"), Link: "eth0"})
	bare := pod(macvlan0)
	bare.Routes = bare.Routes[:0]
	for name, c := range map[string]struct {
		have        State
		service     string
		nameservers string
		keep        string
		want        []string
	}{
		"OpenShift's routes":    {pod(macvlan0), "172.30.0.1", "172.30.0.10", "", nil},
		"kubeadm, Calico":       {calico(), "10.96.0.1", "10.96.0.10", "", []string{begin + "to 10.96.0.1" + goes + "10.96.0.0/12" + or}},
		"k3s, flannel":          {flannel, "10.43.0.1", "10.43.0.10", "", []string{begin + "to 10.43.0.1" + goes + "10.43.0.0/16" + or}},
		"k3s, kept":             {flannel, "10.43.0.1", "10.43.0.10", "10.43.0.0/16", nil},
		"another one kept":      {flannel, "10.43.0.1", "", "10.44.0.0/16", []string{begin + "to 10.43.0.1" + goes + "10.43.0.0/16" + or}},
		"name server alone":     {calico(), "", "10.43.0.10", "", []string{begin + "to 10.43.0.10" + goes + "10.43.0.0/16" + or}},
		"public name server":    {flannel, "", "9.9.9.9", "", nil},
		"nothing known":         {calico(), "", "9.9.9.9", "", []string{begin + "out of the pod's own network" + goes + "PREFIX for each of the cluster's networks"}},
		"nothing known, kept":   {calico(), "", "", "10.0.0.0/8", nil},
		"no way there":          {bare, "10.96.0.1", "9.9.9.9", "10.96.0.0/12", []string{"10.96.0.0/12 is to keep its old way, and there is none: the pod came without a default route of its family"}},
		"kept, of no family":    {calico(), "", "", "fd00::/8", []string{begin + "out of the pod's own network" + goes + "PREFIX for each of the cluster's networks"}},
		"the link leads to one": {calico(), "192.0.2.77", "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, HTTPProxy, "192.0.2.10/24", "192.0.2.1", "")
			cfg.Service, _ = netip.ParseAddr(c.service)
			cfg.Nameservers = ParseNameservers("nameserver " + c.nameservers)
			cfg.KeepRoutes, _ = ParseKeepRoutes(c.keep)
			p, err := NewPlan(cfg, c.have)
			require.NoError(t, err)
			require.Equal(t, c.want, p.Warnings)
		})
	}
}
