package netsetup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// msgs are the problems as a reader sees them: "LINE: MESSAGE".
func msgs(ps []Problem) (all []string) {
	for _, p := range ps {
		all = append(all, fmt.Sprintf("%d: %s", p.Line, p.Msg))
	}
	return all
}

func TestGoodDestinations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"fallback":             {"203.0.113.3", "203.0.113.3\n"},
		"line at the end":      {"203.0.113.3\n", "203.0.113.3\n"},
		"port":                 {"80 tcp 203.0.113.6", "80 tcp 203.0.113.6\n"},
		"other port":           {"8080 tcp 203.0.113.9 80", "8080 tcp 203.0.113.9 80\n"},
		"two ports":            {"80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80", "80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80\n"},
		"ports, then the rest": {"80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80\n203.0.113.3", "80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80\n203.0.113.3\n"},
		"comments": {
			"\n# to the web server\n80 tcp 203.0.113.6\n\n  # its other door\n8080 tcp 203.0.113.9 80\n\n# not yet\n# 8443 tcp 203.0.113.9 443\n\n# whatever else\n203.0.113.3\n\n# the end\n",
			"80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80\n203.0.113.3\n",
		},
		"nothing but comments":  {"# none yet\n\n", ""},
		"spaces, tabs, CR":      {"  53\tudp   203.0.113.53  \r\n", "53 udp 203.0.113.53\n"},
		"port of two protocols": {"53 tcp 203.0.113.53\n53 udp 203.0.113.53\n53 sctp 203.0.113.53", "53 tcp 203.0.113.53\n53 udp 203.0.113.53\n53 sctp 203.0.113.53\n"},
		"port of two families":  {"53 tcp 203.0.113.53\n53 tcp 2001:db8::53", "53 tcp 203.0.113.53\n53 tcp 2001:db8::53\n"},
		"IPv6":                  {"80 tcp 2001:DB8:0::6\n8080 tcp 2001:db8::9 80\n2001:db8::3", "80 tcp 2001:db8::6\n8080 tcp 2001:db8::9 80\n2001:db8::3\n"},
		"a fallback a family":   {"2001:db8::3\n203.0.113.3", "2001:db8::3\n203.0.113.3\n"},
		"the same port, said":   {"80 tcp 203.0.113.6 80", "80 tcp 203.0.113.6 80\n"},
		"first and last port":   {"1 tcp 203.0.113.6 65535\n65535 udp 203.0.113.6 1", "1 tcp 203.0.113.6 65535\n65535 udp 203.0.113.6 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds, ps := ParseDestinations(c.text)
			require.Empty(t, ps)
			require.Equal(t, c.want, FormatDestinations(ds))
		})
	}
}

func TestBadDestinations(t *testing.T) {
	t.Parallel()
	const (
		grammar  = ": write PORT PROTO IP, PORT PROTO IP REMOTEPORT, or IP"
		last     = "EGRESS_DESTINATION fallback IP must be the last line"
		used     = "EGRESS_DESTINATION localport %s is already used, must be unique for each destination"
		badRange = ", must be in the range 1 to 65535"
	)
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"words":                   {"not an IP address", []string{"1: EGRESS_DESTINATION value 'not an IP address' is invalid" + grammar}},
		"a word":                  {"invalid", []string{`1: EGRESS_DESTINATION value 'invalid' is invalid: "invalid" is no IP address`}},
		"one bad line of three":   {"80 tcp 203.0.113.6\ninvalid\n8080 tcp 203.0.113.9 80", []string{`2: EGRESS_DESTINATION value 'invalid' is invalid: "invalid" is no IP address`}},
		"port after the fallback": {"203.0.113.3\n80 tcp 203.0.113.6", []string{"2: " + last}},
		"second fallback":         {"203.0.113.3\n203.0.113.6", []string{"2: " + last}},
		"fallback between":        {"80 tcp 203.0.113.6\n203.0.113.3\n8080 tcp 203.0.113.9 80", []string{"3: " + last}},
		"port after either":       {"203.0.113.3\n80 tcp 2001:db8::6", []string{"2: " + last}},
		"protocol":                {"80 icmp 203.0.113.6", []string{"1: EGRESS_DESTINATION value '80 icmp 203.0.113.6' is invalid: PROTO is tcp, udp or sctp"}},
		"capitals":                {"80 TCP 203.0.113.6", []string{"1: EGRESS_DESTINATION value '80 TCP 203.0.113.6' is invalid: PROTO is tcp, udp or sctp"}},
		"port too great":          {"800000 tcp 203.0.113.6", []string{"1: Invalid port: 800000" + badRange}},
		"port 0":                  {"0 tcp 203.0.113.6", []string{"1: Invalid port: 0" + badRange}},
		"octal":                   {"080 tcp 203.0.113.6", []string{"1: Invalid port: 080" + badRange}},
		"remote port":             {"80 tcp 203.0.113.6 65536", []string{"1: Invalid port: 65536" + badRange}},
		"port twice":              {"80 tcp 203.0.113.6\n8080 tcp 203.0.113.9 80\n80 tcp 203.0.113.9 900", []string{"3: " + fmt.Sprintf(used, "80")}},
		"sign":                    {"+80 tcp 203.0.113.6", []string{"1: EGRESS_DESTINATION value '+80 tcp 203.0.113.6' is invalid" + grammar}},
		"comment behind":          {"80 tcp 203.0.113.6 # web", []string{"1: EGRESS_DESTINATION value '80 tcp 203.0.113.6 # web' is invalid" + grammar}},
		"octets":                  {"999.1.1.1", []string{`1: EGRESS_DESTINATION value '999.1.1.1' is invalid: "999.1.1.1" is no IP address`}},
		"name":                    {"80 tcp www.example.com", []string{`1: EGRESS_DESTINATION value '80 tcp www.example.com' is invalid: "www.example.com" is no IP address`}},
		"port behind a colon":     {"8443 tcp 203.0.113.6:443", []string{"1: EGRESS_DESTINATION value '8443 tcp 203.0.113.6:443' is invalid: write PORT PROTO IP REMOTEPORT, as in: 8443 tcp 203.0.113.6 443"}},
		"zone":                    {"80 tcp fe80::1%eth0", []string{`1: EGRESS_DESTINATION value '80 tcp fe80::1%eth0' is invalid: nothing can be redirected to fe80::1%eth0`}},
		"loopback":                {"80 tcp 127.0.0.1", []string{`1: EGRESS_DESTINATION value '80 tcp 127.0.0.1' is invalid: nothing can be redirected to 127.0.0.1`}},
		"control characters":      {"80\x1b[2J tcp 203.0.113.6", []string{`1: EGRESS_DESTINATION value '80\x1b[2J tcp 203.0.113.6' is invalid` + grammar}},
		"everything at once": {"x\n800000 tcp 203.0.113.6\n203.0.113.3\n1 tcp 203.0.113.6", []string{
			`1: EGRESS_DESTINATION value 'x' is invalid: "x" is no IP address`, "2: Invalid port: 800000" + badRange, "4: " + last,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds, ps := ParseDestinations(c.text)
			require.Nil(t, ds)
			require.Equal(t, c.want, msgs(ps))
		})
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source, gateway, iface string
		want                   string
	}{
		"host":                  {"192.0.2.10", "192.0.2.1", "", "192.0.2.10/32 192.0.2.1"},
		"network":               {"192.0.2.10/24", "192.0.2.1", "", "192.0.2.10/24 192.0.2.1"},
		"twice":                 {"192.0.2.10, 192.0.2.10", "192.0.2.1 192.0.2.1", "", "192.0.2.10/32 192.0.2.1"},
		"families":              {"192.0.2.10/24\n2001:db8::a/64", "192.0.2.1,2001:db8::1", "", "192.0.2.10/24 192.0.2.1; 2001:db8::a/64 2001:db8::1"},
		"link-local gateway":    {"2001:db8::a", "fe80::1", "net1", "2001:db8::a/128 fe80::1 net1"},
		"a gateway each":        {"192.0.2.10 198.51.100.10/24", "198.51.100.1@198.51.100.10 192.0.2.1@192.0.2.10", "", "192.0.2.10/32 192.0.2.1; 198.51.100.10/24 198.51.100.1"},
		"one of its own":        {"192.0.2.10 192.0.2.11", "192.0.2.1 192.0.2.2@192.0.2.11/32", "net1 net2@192.0.2.11", "192.0.2.10/32 192.0.2.1 net1; 192.0.2.11/32 192.0.2.2 net2"},
		"point to point":        {"192.0.2.10/31", "192.0.2.11", "", "192.0.2.10/31 192.0.2.11"},
		"gateway outside":       {"192.0.2.10/24", "198.51.100.1", "", "192.0.2.10/24 198.51.100.1"},
		"no word":               {"not an IP address", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: "not" is not ADDR or ADDR/LEN`},
		"empty":                 {" ", "192.0.2.1", "", "EGRESS_SOURCE unspecified or invalid: name the address to send from, ADDR or ADDR/LEN"},
		"length":                {"192.0.2.10/33", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: "192.0.2.10/33" is not ADDR or ADDR/LEN`},
		"length 0":              {"192.0.2.10/0", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: "192.0.2.10/0": no network has the length 0`},
		"the network":           {"192.0.2.0/24", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: "192.0.2.0/24" is the network itself, or all its hosts; name one host`},
		"all hosts":             {"192.0.2.255/24", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: "192.0.2.255/24" is the network itself, or all its hosts; name one host`},
		"loopback":              {"127.0.0.1", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: nothing can be sent to the outside from "127.0.0.1"`},
		"zone":                  {"fe80::1%eth0", "fe80::2", "", `EGRESS_SOURCE unspecified or invalid: "fe80::1%eth0" has a zone; EGRESS_INTERFACE names the interface`},
		"mapped":                {"::ffff:192.0.2.10", "192.0.2.1", "", `EGRESS_SOURCE unspecified or invalid: "::ffff:192.0.2.10" is an IPv4 address in IPv6 clothes; write 192.0.2.10`},
		"two lengths":           {"192.0.2.10 192.0.2.10/24", "192.0.2.1", "", "EGRESS_SOURCE unspecified or invalid: 192.0.2.10/32 and 192.0.2.10/24 are one address with two lengths; keep one of them"},
		"no gateway":            {"192.0.2.10", "", "", "EGRESS_GATEWAY unspecified or invalid: no gateway for EGRESS_SOURCE 192.0.2.10; name one of its family"},
		"none of its family":    {"192.0.2.10 2001:db8::a", "192.0.2.1", "", "EGRESS_GATEWAY unspecified or invalid: no gateway for EGRESS_SOURCE 2001:db8::a; name one of its family"},
		"gateway of no family":  {"192.0.2.10", "192.0.2.1 2001:db8::1", "", "EGRESS_GATEWAY unspecified or invalid: 2001:db8::1: there is no EGRESS_SOURCE of its family"},
		"gateway, no address":   {"192.0.2.10", "gw", "", `EGRESS_GATEWAY unspecified or invalid: "gw" is not ADDR or ADDR@SOURCE`},
		"two gateways":          {"192.0.2.10", "192.0.2.1 192.0.2.2", "", "EGRESS_GATEWAY unspecified or invalid: 192.0.2.1 and 192.0.2.2 are both for IPv4; say which source each is for: 192.0.2.2@SOURCE"},
		"gateway of a stranger": {"192.0.2.10", "192.0.2.1@192.0.2.11", "", `EGRESS_GATEWAY unspecified or invalid: "192.0.2.1@192.0.2.11": "192.0.2.11" is no EGRESS_SOURCE`},
		"its own gateway":       {"192.0.2.10", "192.0.2.10", "", "EGRESS_GATEWAY unspecified or invalid: 192.0.2.10 is an EGRESS_SOURCE and its own gateway"},
		"gateway twice":         {"192.0.2.10", "192.0.2.1@192.0.2.10 192.0.2.2@192.0.2.10", "", `EGRESS_GATEWAY unspecified or invalid: "192.0.2.2@192.0.2.10": 192.0.2.10 has the gateway 192.0.2.1 already`},
		"wrong family":          {"192.0.2.10", "2001:db8::1@192.0.2.10", "", `EGRESS_GATEWAY unspecified or invalid: "2001:db8::1@192.0.2.10": gateway and source are not of one family`},
		"interface":             {"192.0.2.10", "192.0.2.1", "a/b", `EGRESS_INTERFACE invalid: "a/b" is no name of an interface: up to 15 letters and digits`},
		"loopback interface":    {"192.0.2.10", "192.0.2.1", "lo", `EGRESS_INTERFACE invalid: nothing can leave by "lo"`},
		"two interfaces":        {"192.0.2.10", "192.0.2.1", "net1 net2", "EGRESS_INTERFACE invalid: net1 and net2 are both for every source; say which source each is for: net2@SOURCE"},
		"interface of nobody":   {"192.0.2.10", "192.0.2.1", "net1@192.0.2.11", `EGRESS_INTERFACE invalid: "net1@192.0.2.11": "192.0.2.11" is no EGRESS_SOURCE`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sources, ps := ParseSources(c.source)
			if len(ps) == 0 {
				ps = append(ps, ParseGateways(c.gateway, sources)...)
				ps = append(ps, ParseInterfaces(c.iface, sources)...)
			}
			if len(ps) > 0 {
				require.Equal(t, c.want, ps[0].Msg)
				return
			}
			var got []string
			for _, s := range sources {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Prefix, s.Gateway, s.Interface)))
			}
			require.Equal(t, c.want, strings.Join(got, "; "))
		})
	}
}

func TestEveryProblemOfASource(t *testing.T) {
	t.Parallel()
	_, ps := ParseSources("one,192.0.2.10\n\n127.0.0.1 two")
	require.Equal(t, []string{
		`1: EGRESS_SOURCE unspecified or invalid: "one" is not ADDR or ADDR/LEN`,
		`3: EGRESS_SOURCE unspecified or invalid: nothing can be sent to the outside from "127.0.0.1"`,
		`3: EGRESS_SOURCE unspecified or invalid: "two" is not ADDR or ADDR/LEN`,
	}, msgs(ps))
}

func TestModes(t *testing.T) {
	t.Parallel()
	for _, m := range []Mode{Init, Legacy, HTTPProxy, DNSProxy, UnitTest} {
		got, err := ParseMode(m.String())
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	for _, s := range []string{"", "INIT", "proxy"} {
		_, err := ParseMode(s)
		require.ErrorContains(t, err, "Unrecognized EGRESS_ROUTER_MODE '"+s+"'")
	}
	require.Equal(t, "Mode(99)", Mode(99).String())
}

func TestCheck(t *testing.T) {
	t.Parallel()
	ds, _ := ParseDestinations("80 tcp 2001:db8::6\n203.0.113.6")
	for name, c := range map[string]struct {
		config Config
		want   []string
	}{
		"nothing":    {Config{}, []string{"EGRESS_SOURCE unspecified or invalid: name the address to send from"}},
		"no gateway": {Config{Sources: sources(t, "192.0.2.10", "")}, []string{"EGRESS_GATEWAY unspecified or invalid: no gateway for EGRESS_SOURCE 192.0.2.10; name one of its family"}},
		"family": {
			Config{Mode: Init, Sources: sources(t, "192.0.2.10", "192.0.2.1"), Destinations: ds},
			[]string{"EGRESS_DESTINATION value '80 tcp 2001:db8::6' is invalid: there is no EGRESS_SOURCE of its family, IPv6, to send from"},
		},
		"no redirect": {Config{Mode: HTTPProxy, Sources: sources(t, "192.0.2.10", "192.0.2.1"), Destinations: ds}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, p := range c.config.Check() {
				got = append(got, p.Msg)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// sources are sources with their gateways; with no text of gateways, none.
func sources(t testing.TB, text, gateways string) []Source {
	t.Helper()
	ss, ps := ParseSources(text)
	require.Empty(t, ps)
	if gateways != "" {
		require.Empty(t, ParseGateways(gateways, ss))
	}
	return ss
}

// config is a Config of the texts of the environment.
func config(t testing.TB, mode Mode, source, gateway, destination string) Config {
	t.Helper()
	ds, ps := ParseDestinations(destination)
	require.Empty(t, ps)
	return Config{Mode: mode, Sources: sources(t, source, gateway), Destinations: ds}
}
