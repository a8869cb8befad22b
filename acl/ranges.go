package acl

import "net/netip"

// A guardedRange is a range of addresses with one meaning.
type guardedRange struct {
	prefix netip.Prefix
	class  GuardRange // GuardNone exempts the range from those that follow
	name   string     // as the registry calls it
	source string
}

func guards(prefix string, class GuardRange, name, source string) guardedRange {
	return guardedRange{netip.MustParsePrefix(prefix), class, name, source}
}

// rangeOf returns the first of the ranges that contains a, or nil.
func rangeOf(ranges []guardedRange, a netip.Addr) *guardedRange {
	for i := range ranges {
		if ranges[i].prefix.Contains(a) {
			return &ranges[i]
		}
	}
	return nil
}

// standardRanges are guarded unless the guard is off. They do not overlap.
var standardRanges = []guardedRange{
	guards("0.0.0.0/8", GuardUnspecified, "This network", "RFC 791 section 3.2"),
	guards("127.0.0.0/8", GuardLoopback, "Loopback", "RFC 1122 section 3.2.1.3"),
	guards("169.254.0.0/16", GuardLinkLocal, "Link Local", "RFC 3927"),
	guards("224.0.0.0/4", GuardMulticast, "Multicast", "RFC 5771"),
	guards("255.255.255.255/32", GuardBroadcast, "Limited Broadcast", "RFC 919 section 7"),
	guards("::/128", GuardUnspecified, "Unspecified Address", "RFC 4291 section 2.5.2"),
	guards("::1/128", GuardLoopback, "Loopback Address", "RFC 4291 section 2.5.3"),
	guards("fe80::/10", GuardLinkLocal, "Link-Local Unicast", "RFC 4291 section 2.5.6"),
	guards("fec0::/10", GuardSiteLocal, "Site-Local Unicast (deprecated)", "RFC 3879"),
	guards("ff00::/8", GuardMulticast, "Multicast", "RFC 4291 section 2.7"),
	guards("100.100.100.200/32", GuardMetadata, "Alibaba Cloud", "its documentation"),
	guards("168.63.129.16/32", GuardMetadata, "Azure (WireServer)", "its documentation"),
	guards("192.0.0.192/32", GuardMetadata, "Oracle Cloud Classic", "its documentation"),
	guards("fd00:ec2::254/128", GuardMetadata, "Amazon EC2", "its documentation"),
	guards("fd20:ce::254/128", GuardMetadata, "Google Cloud", "its documentation"),
}

// specialRanges are guarded too when the guard is strict: the entries of the
// IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) whose
// "Globally Reachable" is False, less those of standardRanges. Smaller entries
// inside a larger one are not listed again: unlocking the larger one unlocks
// them. Entries whose column says "N/A" exempt nothing and add nothing: Teredo
// stays inside 2001::/23, 6to4 is judged by what it embeds. ::ffff:0:0/96 never
// gets here, for an IPv4-mapped address is its IPv4 address.
var specialRanges = []guardedRange{
	guards("192.0.0.9/32", GuardNone, "Port Control Protocol Anycast", "RFC 7723"),
	guards("192.0.0.10/32", GuardNone, "TURN Anycast", "RFC 8155"),
	guards("10.0.0.0/8", GuardSpecial, "Private-Use", "RFC 1918"),
	guards("100.64.0.0/10", GuardSpecial, "Shared Address Space", "RFC 6598"),
	guards("172.16.0.0/12", GuardSpecial, "Private-Use", "RFC 1918"),
	guards("192.0.0.0/24", GuardSpecial, "IETF Protocol Assignments", "RFC 6890 section 2.1"),
	guards("192.0.2.0/24", GuardSpecial, "Documentation (TEST-NET-1)", "RFC 5737"),
	guards("192.88.99.2/32", GuardSpecial, "6a44-relay anycast address", "RFC 6751"),
	guards("192.168.0.0/16", GuardSpecial, "Private-Use", "RFC 1918"),
	guards("198.18.0.0/15", GuardSpecial, "Benchmarking", "RFC 2544"),
	guards("198.51.100.0/24", GuardSpecial, "Documentation (TEST-NET-2)", "RFC 5737"),
	guards("203.0.113.0/24", GuardSpecial, "Documentation (TEST-NET-3)", "RFC 5737"),
	guards("240.0.0.0/4", GuardSpecial, "Reserved", "RFC 1112 section 4"),

	guards("2001:1::1/128", GuardNone, "Port Control Protocol Anycast", "RFC 7723"),
	guards("2001:1::2/128", GuardNone, "TURN Anycast", "RFC 8155"),
	guards("2001:1::3/128", GuardNone, "DNS-SD Service Registration Protocol Anycast", "RFC 9665"),
	guards("2001:3::/32", GuardNone, "AMT", "RFC 7450"),
	guards("2001:4:112::/48", GuardNone, "AS112-v6", "RFC 7535"),
	guards("2001:20::/28", GuardNone, "ORCHIDv2", "RFC 7343"),
	guards("2001:30::/28", GuardNone, "Drone Remote ID Protocol Entity Tags", "RFC 9374"),
	guards("64:ff9b:1::/48", GuardSpecial, "IPv4-IPv6 Translation, local use", "RFC 8215"),
	guards("100::/64", GuardSpecial, "Discard-Only Address Block", "RFC 6666"),
	guards("100:0:0:1::/64", GuardSpecial, "Dummy IPv6 Prefix", "RFC 9780"),
	guards("2001::/23", GuardSpecial, "IETF Protocol Assignments", "RFC 2928"),
	guards("2001:db8::/32", GuardSpecial, "Documentation", "RFC 3849"),
	guards("3fff::/20", GuardSpecial, "Documentation", "RFC 9637"),
	guards("5f00::/16", GuardSpecial, "Segment Routing (SRv6) SIDs", "RFC 9602"),
	guards("fc00::/7", GuardSpecial, "Unique-Local", "RFC 4193"),
}
