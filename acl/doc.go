// Package acl decides which destinations may be reached. It reads a text of
// rules into an immutable [Policy], and a Policy gives a [Decision] on a
// [Target]. It opens no sockets and no files, and resolves no names.
//
//	p, err := acl.Parse("!*.example.com\n!192.168.1.0/24\n192.168.2.1\n*\n")
//	t, err := acl.ParseTarget("www.example.com:443")
//	d := p.DecideHost(t)          // never needs a look-up
//	if d.Verdict == acl.NeedAddr { // resolve the name, then for every address:
//		d = p.DecideAddr(t, addr)
//	}
//
// Only addresses whose verdict is [Allow] may be connected to, and exactly
// those: resolve once, and dial the address that was judged.
//
// # Rules
//
// One rule a line. White space around a rule, blank lines and comments (from a
// `#` at the start of a line or behind white space) mean nothing. LF and CRLF
// end lines; a UTF-8 byte-order mark may stand in front.
//
//	192.168.1.1           that destination address; also 2001:db8::1, [2001:db8::1]
//	192.168.1.0/24        every destination address in it; also fe80::/10
//	www.example.com       that name alone
//	*.example.com         that name and every name below it
//	api-*.example.com     names, label by label: `*` stands for any characters
//	                      of one label, and never crosses a dot
//	*.s3.*.amazonaws.com  as above, but a leading `*.` keeps its meaning: the
//	                      rest, and every name below it
//	*                     everything; only as the last rule
//
// A `!` in front of any form but `*` makes it a deny rule; white space may
// follow it. Any form may end in a port set: `:443`, `:8000-8999`,
// `:80,443,8000-8999`; IPv6 then needs brackets: `[2001:db8::/32]:443`. Without
// a port set a rule is for any port. A port set of all ports is none.
//
// Behind `*` only another `*` may stand, which is a rule of its own but warned
// of. A text without rules is legal and denies everything.
//
// # Directives
//
// A comment that begins with `#@` is a directive: words `key=value`, or `key="some words"`. One
// that is not known is an error, and so is a key twice.
//
//	example.com #@ owner=payments ticket=T-1      who wants the rule, and why
//	example.com #@ expires=2027-03-01             valid through that day, UTC; see [Policy.At]
//	example.com #@ protocol=tls                   what a tunnel has to carry: tls, http, ssh, any
//	#@ owner=payments                             for the rules up to the next blank line
//	#@ assert deny 10.0.0.0/8                     must hold for the whole list; see [Assertion]
//	#@ x-cost-centre=42                           somebody else's: never an error, and never read
//	#@ end                                        the last line: the text is whole; see [Policy.Whole]
//
// What stands behind a rule stands in front of what its block says. Words behind one that begins
// with x- belong to it, unless they are ours. A comment may follow, behind white space and `#`.
// Nothing but blank lines may follow `#@ end`.
//
// # Normal forms
//
// Names and addresses are normalised once, alike in rules and in requests:
//
//   - ASCII case is folded, and one trailing dot dropped. Labels hold letters,
//     digits, `-` and `_`, up to 63 octets; a name up to 253 octets.
//   - A Unicode name in a rule becomes its A-labels (IDNA 2008 lookup with UTS
//     46 mapping, non-transitional). In a glob each literal label is turned by
//     itself, and no label may mix Unicode and `*`. In a request a Unicode name
//     is refused (RFC 3986 section 3.2.2 has no such host).
//   - An IPv4-mapped IPv6 address is its IPv4 address, and a prefix of 96 bits
//     or more of such addresses is an IPv4 prefix. Shorter prefixes of an
//     IPv4-mapped address are refused; `::/0` is every IPv6 address, and no IPv4
//     address.
//   - A name whose last label is a number (digits, or 0x and hexadecimal digits,
//     or 0x alone) is a dotted quad without leading zeros, or refused:
//     `127.1`, `0177.0.0.1`, `0x7f000001`. `10.0.0.1.` is 10.0.0.1.
//   - Refused as well: IPv6 zones, user information, schemes, paths, port 0, and
//     ports with leading zeros. A CIDR with host bits set is masked, with a
//     warning.
//
// # Decisions
//
// The first rule that matches is the verdict; none is deny. Name rules match the
// name that was asked for, never an address literal. Address rules match the
// address: the literal, or one that the name resolved to. So a request for a
// name is decided for each of its addresses alone. [Policy.DecideHost] says
// without any address what can be said: a name that is denied whatever it
// resolves to must never be resolved.
//
// Some IPv6 addresses embed an IPv4 address: NAT64 in 64:ff9b::/96 and in
// 64:ff9b:1::/48 (there as RFC 6052 has it for prefixes of 48, 56, 64 and 96 bits, all
// four, since only the operator knows which it is; a reading in 0.0.0.0/8 counts for
// none), 6to4 in 2002::/16, Teredo in 2001::/32 (both its
// server and its client), ISATAP behind any prefix, IPv4-translated in
// ::ffff:0:0:0/96, and IPv4-compatible in ::/96 (apart from :: and ::1). The deny
// rules for the embedded address match these too, at their place in the list;
// allow rules for it do not. Translation prefixes of a network's own are not
// looked into.
//
// # Guard
//
// Whatever the rules allow, these are denied: loopback, unspecified (0.0.0.0/8
// and ::), link-local, site-local, multicast, limited broadcast, the metadata
// services of clouds that are not link-local, and the addresses of the host
// itself ([Guard.Own]). [GuardStrict] adds the ranges that the IANA
// special-purpose registries call not globally reachable, apart from the
// smaller ranges inside them that they call reachable.
//
// An allow rule for an address or prefix inside the guarded range lifts the
// guard for what it covers: its addresses, on its ports. It may stand anywhere,
// even where an earlier rule denies what it allows; the ordered rules still
// give the verdict. Wider prefixes, names and `*` lift nothing.
//
// An own address that lies in another range of the standard guard, such as
// 127.0.0.1, belongs to that range. Any other is a range of one address:
// `10.0.0.5` lifts it, `10.0.0.0/8` does not. An address in several ranges
// (GuardStrict) is guarded until each is lifted.
//
// An address that embeds an IPv4 address is guarded when the embedded one is.
// What lifts the guard from the embedded address lifts it here; so does a rule
// for the embedding addresses, when it lies inside what embeds the guarded
// range: `64:ff9b::127.0.0.1` for one address of loopback behind NAT64.
//
// # Cost
//
// A decision costs a few hash look-ups on the suffixes of the name and one or
// two look-ups in a table of prefixes, whatever the number of rules. Only globs
// are tried in order, and of these only those that end in the same literal
// labels as the name, while they can still win. No decision allocates.
//
// [Parse] and [Policy.WithGuard] find out in advance which names need not be
// resolved. That is exact, also where earlier rules hide later ones together or
// in part. Lists in which that would take more than four million trials (thousands
// of prefixes of both families that hide each other, or many thousands on many
// thousands of different ports) have names resolved that need not be; verdicts stay
// right.
package acl
