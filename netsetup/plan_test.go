package netsetup

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the goldens anew")

// golden compares got with the file in testdata, in the words of the operator.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func pp(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func aa(s string) netip.Addr   { return netip.MustParseAddr(s) }

// pod is what a pod of a cluster looks like, with an egress interface that is down.
func pod(egress ...Link) State {
	return State{
		Links: append([]Link{{Name: "lo", Kind: "loopback", Up: true}, {Name: "eth0", Kind: "veth", Up: true}}, egress...),
		Addrs: []Addr{{"eth0", pp("10.128.0.3/24")}, {"eth0", pp("fd00:128::3/64")}},
		Routes: []Route{
			{Table: tableMain, Dst: pp("0.0.0.0/0"), Gateway: aa("10.128.0.1"), Link: "eth0", MTU: 1400},
			{Table: tableMain, Dst: pp("10.128.0.0/24"), Link: "eth0", Src: aa("10.128.0.3"), kernel: true},
			{Table: tableMain, Dst: pp("172.30.0.0/16"), Gateway: aa("10.128.0.1"), Link: "eth0"},
			{Table: tableMain, Dst: pp("224.0.0.0/4"), Link: "eth0"},
			{Table: tableMain, Dst: pp("::/0"), Gateway: aa("fd00:128::1"), Link: "eth0", Metric: 1024},
			{Table: tableMain, Dst: pp("fd00:128::/64"), Link: "eth0", Metric: 256, kernel: true},
			{Table: tableMain, Dst: pp("fe80::/64"), Link: "eth0", Metric: 256, kernel: true},
		},
		Sysctls: map[string]string{forward4: "0", forward6: "0", "net/ipv6/conf/macvlan0/accept_ra": "1"},
	}
}

var macvlan0 = Link{Name: "macvlan0", Kind: "macvlan"}

func TestPlans(t *testing.T) {
	t.Parallel()
	two := config(t, HTTPProxy, "192.0.2.10/24 198.51.100.10", "192.0.2.1@192.0.2.10 198.51.100.1@198.51.100.10", "")
	require.Empty(t, ParseInterfaces("net1@192.0.2.10 net2@198.51.100.10", two.Sources))
	created := config(t, DNSProxy, "192.0.2.10", "192.0.2.1", "")
	created.Master = "eth1"
	multus := pod(Link{Name: "net1", Kind: "macvlan", Up: true})
	multus.Addrs = append(multus.Addrs, Addr{"net1", pp("192.0.2.10/24")})
	readOnly := pod(Link{Name: "net1", Kind: "macvlan"}, Link{Name: "net2", Kind: "macvlan"})
	readOnly.ReadOnly = true
	readOnly.Sysctls["net/ipv4/conf/net1/arp_ignore"] = "0"
	for name, c := range map[string]struct {
		config Config
		have   State
	}{
		"proxy":     {config(t, HTTPProxy, "192.0.2.10", "192.0.2.1", ""), pod(macvlan0)},
		"redirect":  {config(t, Init, "192.0.2.10/24", "192.0.2.1", "80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80\n53 udp 203.0.113.53\n203.0.113.3"), pod(macvlan0)},
		"both":      {config(t, Legacy, "192.0.2.10/24 2001:db8::a/64 192.0.2.11/24", "192.0.2.1 fe80::1", "80 tcp 203.0.113.6\n80 tcp 2001:db8:1::6 8080\n3868 sctp 203.0.113.7"), pod(macvlan0)},
		"multihome": {two, pod(Link{Name: "net1", Kind: "macvlan"}, Link{Name: "net2", Kind: "macvlan"})},
		"warnings":  {two, readOnly},
		"created":   {created, pod(Link{Name: "eth1", Kind: "veth", Up: true})},
		"multus":    {config(t, HTTPProxy, "192.0.2.10", "192.0.2.1", ""), multus},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := NewPlan(c.config, c.have)
			require.NoError(t, err)
			golden(t, name+".sh", p.String())
		})
	}
}

// after is the state that a plan leads to.
func after(t *testing.T, c Config, have State) State {
	t.Helper()
	p, err := NewPlan(c, have)
	require.NoError(t, err)
	now := have.clone()
	for _, ch := range p.Changes {
		now = now.with(ch)
	}
	return now
}

func TestSecondPlanIsEmpty(t *testing.T) {
	t.Parallel()
	c := config(t, Init, "192.0.2.10/24 2001:db8::a 192.0.2.11/24", "192.0.2.1 2001:db8::1", "80 tcp 203.0.113.6\n2001:db8:1::6")
	p, err := NewPlan(c, after(t, c, pod(macvlan0)))
	require.NoError(t, err)
	require.Empty(t, p.Changes)
}

// TestMoves: what an earlier run made and the settings no longer want goes, and a
// family without a source gets the cluster's default route back.
func TestMoves(t *testing.T) {
	t.Parallel()
	old := config(t, Init, "192.0.2.10/24 2001:db8::a/64", "192.0.2.1 2001:db8::1", "80 tcp 203.0.113.6")
	now := after(t, old, pod(macvlan0))
	for name, c := range map[string]Config{
		"address":  config(t, Init, "192.0.2.20/24 2001:db8::a/64", "192.0.2.1 2001:db8::1", "80 tcp 203.0.113.6"),
		"length":   config(t, Init, "192.0.2.10 2001:db8::a/112", "192.0.2.1 2001:db8::1", "80 tcp 203.0.113.6"),
		"gateway":  config(t, Init, "192.0.2.10/24 2001:db8::a/64", "192.0.2.2 2001:db8::1", "80 tcp 203.0.113.6"),
		"family":   config(t, Init, "192.0.2.10/24", "192.0.2.1", "80 tcp 203.0.113.6"),
		"redirect": config(t, Init, "192.0.2.10/24 2001:db8::a/64", "192.0.2.1 2001:db8::1", "80 tcp 203.0.113.7"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := NewPlan(c, now)
			require.NoError(t, err)
			golden(t, "move-"+name+".sh", p.String())
		})
	}
}

// TestGoingBack: the plan from what is now to what was is what undoes a set-up.
func TestGoingBack(t *testing.T) {
	t.Parallel()
	before := pod(macvlan0)
	c := config(t, Init, "192.0.2.10/24 2001:db8::a", "192.0.2.1 2001:db8::1", "80 tcp 203.0.113.6")
	now := after(t, c, before)
	for _, ch := range diff(now, before) {
		now = now.with(ch)
	}
	require.Empty(t, diff(now, before))
	require.Empty(t, diff(before, now))
}

// with is s after a change: the kernel, as the plans know it.
func (s State) with(c Change) State {
	without := func(r Route) (kept []Route) {
		for _, o := range s.Routes {
			if !o.same(r) {
				kept = append(kept, o)
			}
		}
		return kept
	}
	switch c.Op {
	case LinkAdd:
		s.Links = append(s.Links, Link{Name: c.Link.Name, Kind: c.Link.Kind})
	case LinkUp, LinkDown:
		for i := range s.Links {
			if s.Links[i].Name == c.Link.Name {
				s.Links[i].Up = c.Op == LinkUp
			}
		}
	case SysctlSet:
		s.Sysctls[c.Key] = c.Value
	case RuleAdd:
		s.Rules = append(s.Rules, c.Rule)
	case RuleDel:
		var kept []Rule
		for _, r := range s.Rules {
			if r != c.Rule {
				kept = append(kept, r)
			}
		}
		s.Rules = kept
	case AddrAdd:
		s.Addrs = append(s.Addrs, c.Addr)
	case AddrDel, AddrMove:
		var kept []Addr
		for _, a := range s.Addrs {
			if a != c.Addr {
				kept = append(kept, a)
			}
		}
		s.Addrs = kept
	case RouteAdd, DefaultAdd:
		s.Routes = append(s.Routes, c.Route)
	case RouteReplace, DefaultReplace:
		s.Routes = append(without(c.Old), c.Route)
	case RouteDel:
		s.Routes = without(c.Route)
	case NATLoad:
		s.Chains = c.NAT
	}
	return s
}

func TestChoiceOfInterface(t *testing.T) {
	t.Parallel()
	type links = []Link
	net1, net2 := Link{Name: "net1", Kind: "macvlan"}, Link{Name: "net2", Kind: "macvlan"}
	for name, c := range map[string]struct {
		egress  links
		carry   []Addr
		iface   string
		master  string
		want    string
		wantErr string
	}{
		"macvlan0":          {egress: links{net1, macvlan0}, want: "macvlan0"},
		"named":             {egress: links{net1, macvlan0}, iface: "net1", want: "net1"},
		"carries":           {egress: links{net1, net2, {Name: "bond0", Kind: "bond"}}, carry: []Addr{{"bond0", pp("192.0.2.10/24")}}, want: "bond0"},
		"the only one":      {egress: links{{Name: "bond0", Kind: "bond"}, net1}, want: "net1"},
		"made":              {egress: links{{Name: "bond0", Kind: "bond"}}, master: "bond0", want: "macvlan0"},
		"made by name":      {egress: links{{Name: "bond0", Kind: "bond"}}, iface: "out0", master: "bond0", want: "out0"},
		"there, not made":   {egress: links{net1}, master: "eth0", want: "net1"},
		"none":              {wantErr: "find the interface of EGRESS_SOURCE 192.0.2.10: there is no macvlan0, no interface that carries it, and no macvlan; there are: eth0 (veth 10.128.0.3/24 fd00:128::3/64); name one in EGRESS_INTERFACE, or a parent in EGRESS_MASTER to have one made"},
		"several":           {egress: links{net1, net2}, wantErr: "choose the interface of EGRESS_SOURCE 192.0.2.10: net1 and net2 are macvlans; there are: eth0 (veth 10.128.0.3/24 fd00:128::3/64), net1 (macvlan), net2 (macvlan); name one in EGRESS_INTERFACE"},
		"several carry it":  {egress: links{net1, net2}, carry: []Addr{{"net1", pp("192.0.2.10/24")}, {"net2", pp("192.0.2.10/24")}}, wantErr: "choose the interface of EGRESS_SOURCE 192.0.2.10: net1 and net2 carry it; there are: eth0 (veth 10.128.0.3/24 fd00:128::3/64), net1 (macvlan 192.0.2.10/24), net2 (macvlan 192.0.2.10/24); name one in EGRESS_INTERFACE"},
		"no such interface": {egress: links{net1}, iface: "net7", wantErr: "interface net7 of EGRESS_SOURCE 192.0.2.10 does not exist; there are: eth0 (veth 10.128.0.3/24 fd00:128::3/64), net1 (macvlan); correct EGRESS_INTERFACE, or name a parent in EGRESS_MASTER to have it made"},
		"no such parent":    {master: "eth7", wantErr: "make interface macvlan0: its parent, EGRESS_MASTER eth7, does not exist; there are: eth0 (veth 10.128.0.3/24 fd00:128::3/64)"},
		"elsewhere":         {egress: links{macvlan0, net1}, carry: []Addr{{"net1", pp("192.0.2.10/24")}}, wantErr: "bring EGRESS_SOURCE 192.0.2.10 to macvlan0: net1 has it already; name that in EGRESS_INTERFACE, or take the address away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, HTTPProxy, "192.0.2.10", "192.0.2.1", "")
			cfg.Master = c.master
			require.Empty(t, ParseInterfaces(c.iface, cfg.Sources))
			have := pod(c.egress...)
			have.Addrs = append(have.Addrs, c.carry...)
			p, err := NewPlan(cfg, have)
			if c.wantErr != "" {
				require.EqualError(t, err, c.wantErr)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, p.Announce[0].Link)
		})
	}
}

func TestNoPlan(t *testing.T) {
	t.Parallel()
	_, err := NewPlan(config(t, UnitTest, "192.0.2.10", "192.0.2.1", ""), pod(macvlan0))
	require.EqualError(t, err, `plan the network: mode "unit-test" sets nothing up`)
	_, err = NewPlan(Config{Mode: Init}, pod(macvlan0))
	require.ErrorContains(t, err, "EGRESS_SOURCE unspecified or invalid")
	have := pod(macvlan0)
	have.ReadOnly = true
	_, err = NewPlan(config(t, Init, "192.0.2.10", "192.0.2.1", "203.0.113.3"), have)
	require.EqualError(t, err, "set net.ipv4.ip_forward: it is 0, redirect mode needs 1, and /proc/sys cannot be written; set it in the pod's securityContext.sysctls, or make this container privileged")
}

// TestUnitTestRules has the situations of the upstream script's test.
func TestUnitTestRules(t *testing.T) {
	t.Parallel()
	const pre, post = `add rule ip nat prerouting iifname "eth0" `, "add rule ip nat postrouting oifname \"macvlan0\" snat to 192.0.2.10\n"
	for name, c := range map[string]struct{ source, gateway, destination, want string }{
		"fallback":   {"192.0.2.10", "192.0.2.1", "203.0.113.3", pre + "dnat to 203.0.113.3\n" + post},
		"length":     {"192.0.2.10/24", "192.0.2.1", "203.0.113.3\n", pre + "dnat to 203.0.113.3\n" + post},
		"port":       {"192.0.2.10", "192.0.2.1", "80 tcp 203.0.113.6", pre + "tcp dport 80 dnat to 203.0.113.6\n" + post},
		"other port": {"192.0.2.10", "192.0.2.1", "8080 udp 203.0.113.9 80", pre + "udp dport 8080 dnat to 203.0.113.9:80\n" + post},
		"all": {"192.0.2.10", "192.0.2.1", "80 tcp 203.0.113.6\n# next\n\n8080 tcp 203.0.113.9 80\n203.0.113.3",
			pre + "tcp dport 80 dnat to 203.0.113.6\n" + pre + "tcp dport 8080 dnat to 203.0.113.9:80\n" + pre + "dnat to 203.0.113.3\n" + post},
		"nothing": {"192.0.2.10", "192.0.2.1", "# nothing", post},
		"IPv6": {"2001:db8::a", "2001:db8::1", "80 tcp 2001:db8:1::6 8080\n2001:db8:1::3",
			"add rule ip6 nat prerouting iifname \"eth0\" tcp dport 80 dnat to [2001:db8:1::6]:8080\n" +
				"add rule ip6 nat prerouting iifname \"eth0\" dnat to 2001:db8:1::3\n" +
				"add rule ip6 nat postrouting oifname \"macvlan0\" snat to 2001:db8::a\n"},
		"two sources": {"192.0.2.10 192.0.2.11", "192.0.2.1", "203.0.113.3", pre + "dnat to 203.0.113.3\n" +
			"add rule ip nat postrouting oifname \"macvlan0\" ip saddr 192.0.2.11 accept\n" + post},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, UnitTestRules(config(t, UnitTest, c.source, c.gateway, c.destination)))
		})
	}
}

// Held addresses are brought by who holds them: the plan brings and removes none of them, and
// no route of it needs them.
func TestHoldPlan(t *testing.T) {
	t.Parallel()
	c := config(t, HTTPProxy, "192.0.2.10/24 2001:db8::a", "192.0.2.1 2001:db8::1", "")
	c.Hold = true
	have := pod(macvlan0)
	p, err := NewPlan(c, have)
	require.NoError(t, err)
	require.NotContains(t, p.String(), "ip address")
	require.NotContains(t, p.String(), " src 192.0.2.10")
	require.NotContains(t, p.String(), " src 2001:db8::a")
	require.NotContains(t, p.String(), "# nobody else may have it")
	require.Contains(t, p.String(), "ip route add 192.0.2.0/24 dev macvlan0 proto 83 scope link\n", "the kernel makes none")
	// The next look, while they are held.
	have.Rules = []Rule{{Priority: tableSource, Table: tableSource, From: aa("192.0.2.10"), Brought: true}, {Priority: tableSource + 1, Table: tableSource + 1, From: aa("2001:db8::b"), V6: true, Brought: true}}
	have.Addrs = append(have.Addrs, Addr{"macvlan0", pp("192.0.2.10/32")}, Addr{"macvlan0", pp("2001:db8::b/128")})
	p, err = NewPlan(c, have)
	require.NoError(t, err)
	require.NotContains(t, p.String(), "192.0.2.10/32")
	require.Contains(t, p.String(), "ip address del 2001:db8::b/128 dev macvlan0\n", "it is held no more")
}
