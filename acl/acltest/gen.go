package acltest

import (
	"net/netip"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// Pools small enough that rules and requests meet.
var (
	names = []string{
		"com", "a.com", "b.com", "x.a.com", "y.x.a.com", "api-1.a.com", "api-.a.com", "api.1.a.com", "aab.b.com",
		"registry", "s3.eu.aws.com", "k.s3.eu.aws.com", "s3.aws.com", "_d.b.com", "cafe.de", "www",
	}
	globs = []string{
		"api-*.a.com", "*.s3.*.aws.com", "a*.b.com", "*a*b*.b.com", "www.*", "*.*", "*-*.*.com", "*.x*.a.com",
		"x.*.com", "*.*.com", "*b", "s3.*.aws.com",
	}
	prefixes = []string{
		"0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16",
		"10.1.2.3", "10.1.2.4", "192.168.0.0/16", "192.168.1.1", "203.0.113.5", "127.0.0.0/8", "127.0.0.1",
		"127.0.0.0/9", "127.128.0.0/9", "169.254.0.0/16", "169.254.169.254", "224.0.0.0/4", "224.0.0.0/3",
		"0.0.0.0/8", "0.0.0.1", "255.255.255.255", "240.0.0.0/4", "192.0.0.0/24", "192.0.0.9", "192.88.99.2",
		"::/0", "::/1", "8000::/1", "::/96", "::/104", "::1", "::", "::a01:203", "::/127", "fe80::/10", "fe80::1", "ff00::/8",
		"64:ff9b::/96", "64:ff9b::a00:0/104", "64:ff9b::a01:203", "64:ff9b::7f00:1", "64:ff9b::7f00:0/104",
		"2002::/16", "2002:a00::/24", "2002:a01:203::/48", "2002:7f00:1::/48", "2002:7f00:1::1", "2001::/23",
		"2001:db8::/32", "2001:db8::1", "2001:db8::2", "fc00::/7", "::/80",
		"64:ff9b:1::/48", "64:ff9b:1:a00::/56", "64:ff9b:1:a01:2:300::/88", "64:ff9b:1:a01:102:300::/88", "64:ff9b:1:7f00::/64",
		"2001::/32", "2001:0:a01:203::/64", "2001:0:a00::/40", "2001:0:808:808::f5fe:fdfc", "2001:0:808:808::80ff:fffe",
		"2001:db8::5efe:a01:203", "2001:db8::5efe:a00:0/104", "4000::200:5efe:7f00:1", "4000::5efe:0:0/96", "4000::/64",
		"::ffff:0:a00:0/104", "::ffff:0:7f00:1", "::ffff:0:0:0/96", "fec0::/10", "fd00:ec2::254", "100.100.100.200",
		"168.63.129.16", "100.64.0.0/10",
	}
	portSets = []string{"", "", "", ":80", ":443", ":80-443", ":1-79,81-65535", ":80,443", ":1-65535", ":81-65535"}
	ports    = []uint16{1, 79, 80, 81, 443, 444, 65535}
)

// Rules generates texts that acl accepts: up to 12 rules.
func Rules() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		lines := rapid.SliceOfN(Rule(), 0, 12).Draw(t, "rules")
		if rapid.Bool().Draw(t, "star") {
			lines = append(lines, "*"+rapid.SampledFrom(portSets).Draw(t, "ports"))
		}
		return strings.Join(lines, rapid.SampledFrom([]string{"\n", "\r\n", " # comment\n", "\n\n"}).Draw(t, "end"))
	})
}

// Rule generates a rule in one of its spellings, never `*`.
func Rule() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var form string
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			form = spell(t, Name().Draw(t, "name"))
		case 1:
			form = "*." + spell(t, Name().Draw(t, "domain"))
		case 2:
			form = spell(t, rapid.SampledFrom(globs).Draw(t, "glob"))
		default:
			form = Prefix().Draw(t, "prefix")
		}
		set := rapid.SampledFrom(portSets).Draw(t, "ports")
		if strings.Contains(form, ":") && set != "" {
			form = "[" + form + "]"
		}
		return rapid.SampledFrom([]string{"", "!", "! ", " "}).Draw(t, "deny") + form + set
	})
}

// spell changes what must not matter in a name.
func spell(t *rapid.T, name string) string {
	switch rapid.IntRange(0, 4).Draw(t, "spelling") {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return name + "."
	}
	return name
}

// Prefix generates an address or CIDR in one of its spellings, nested often.
func Prefix() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := rapid.SampledFrom(prefixes).Draw(t, "prefix")
		if rapid.IntRange(0, 2).Draw(t, "dense") == 0 {
			a := dense(t)
			s = netip.PrefixFrom(a, a.BitLen()-rapid.IntRange(0, 4).Draw(t, "free")).Masked().String()
		}
		p, _ := parsePrefix(s)
		if rapid.IntRange(0, 3).Draw(t, "nest") == 0 {
			bits := rapid.IntRange(p.Bits(), p.Addr().BitLen()).Draw(t, "bits")
			a := rapid.SampledFrom(Ends(p)[1:3]).Draw(t, "end")
			if a.Is4In6() {
				a = p.Addr() // the end of ::/80
			}
			p = netip.PrefixFrom(a, bits)
			s = p.String()
		}
		if p.Addr().Is4() && rapid.IntRange(0, 4).Draw(t, "mapped") == 0 {
			s = "::ffff:" + p.Addr().String() + "/" + strconv.Itoa(96+p.Bits())
		}
		return s
	})
}

// dense generates one of sixteen neighbours, so that few prefixes cover others
// together.
func dense(t *rapid.T) netip.Addr {
	host := rapid.ByteRange(0, 15).Draw(t, "host")
	a := netip.AddrFrom4([4]byte{11, 0, 0, host})
	if rapid.IntRange(0, 3).Draw(t, "six") == 0 {
		a = rapid.SampledFrom(Embed(a)).Draw(t, "how")
	}
	return a
}

// Name generates a name.
func Name() *rapid.Generator[string] { return rapid.SampledFrom(names) }

// Port generates a port that some set ends or begins at.
func Port() *rapid.Generator[uint16] { return rapid.SampledFrom(ports) }

// Addr generates an address at an end of a prefix that rules use, or one that
// embeds such an address; never an IPv4-mapped one.
func Addr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.IntRange(0, 2).Draw(t, "dense") == 0 {
			return dense(t)
		}
		p, _ := parsePrefix(rapid.SampledFrom(prefixes).Draw(t, "prefix"))
		a := rapid.SampledFrom(Ends(p)).Draw(t, "end")
		if !a.IsValid() || a.Is4In6() {
			a = p.Addr()
		}
		if a.Is4() && rapid.Bool().Draw(t, "embed") {
			a = rapid.SampledFrom(Embed(a)).Draw(t, "how")
		}
		if a.Is4In6() {
			a = a.Unmap()
		}
		return a
	})
}

// Guard generates a guard mode and addresses of the host.
func Guard() *rapid.Generator[GuardCase] {
	return rapid.Custom(func(t *rapid.T) GuardCase {
		return GuardCase{
			Mode: rapid.SampledFrom([]string{"default", "strict", "off"}).Draw(t, "mode"),
			Own:  rapid.SliceOfN(Addr(), 0, 3).Draw(t, "own"),
		}
	})
}

// A GuardCase is a guard mode with addresses of the host.
type GuardCase struct {
	Mode string
	Own  []netip.Addr
}
