package fence

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names of the sets of a group's tables. Pending is in one table only: that is enough to
// make a transaction fail.
const (
	pendingSet = "pending"
	fenced4    = "fenced4" // what the fence is about, for good
	fenced6    = "fenced6"
	held4      = "held4" // what it lets pass, for now
	held6      = "held6"
)

// Chains of the tables; of those of the family netdev each interface has one.
const (
	chainOutput      = "output"
	chainPostrouting = "postrouting"
	chainEgress      = "egress-"
)

// Where addresses are in packets, in octets.
const (
	ipv4Source   = 12
	ipv6Source   = 8
	arpSender    = 14
	naTarget     = 8
	addr4, addr6 = 4, 16
)

// lastPriority is behind all that translates addresses.
var lastPriority = nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource + 200)

// arpOutput is the hook of the family arp for what leaves, which has a number of its own.
var arpOutput = nftables.ChainHookRef(1) // NF_ARP_OUT

// refuse drops, and counts, what has at that place an address that is fenced and not held.
func refuse(match []expr.Any, base expr.PayloadBase, offset, size uint32, comment string) rule {
	fenced, held := fenced4, held4
	if size == addr6 {
		fenced, held = fenced6, held6
	}
	return rule{comment, append(match,
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: size},
		&expr.Lookup{SourceRegister: 1, SetName: fenced},
		&expr.Lookup{SourceRegister: 1, SetName: held, Invert: true},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop})}
}

// rule is what the kernel does with a packet, and a word of why.
type rule struct {
	comment string
	exprs   []expr.Any
}

// is matches what a packet is: by the family of an inet chain, or by the protocol.
func is(key expr.MetaKey, value ...byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value},
	}
}

// advertisement matches neighbour advertisements, of what is IPv6 already.
func advertisement(match []expr.Any) []expr.Any {
	match = append(match, is(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMPV6)...)
	return append(match,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{136}})
}

const (
	ofSource    = "source address not held"
	ofSender    = "ARP sender not held"
	ofNeighbour = "advertised neighbour not held"
)

// arpRules are those of the family arp.
func arpRules() []rule {
	return []rule{refuse(nil, expr.PayloadBaseNetworkHeader, arpSender, addr4, ofSender)}
}

// inetRules are those of the family inet.
func inetRules() []rule {
	v4 := func() []expr.Any { return is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4) }
	v6 := func() []expr.Any { return is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6) }
	return ipRules(v4, v6)
}

// netdevRules are those of an interface: frames of any kind, whoever made them.
func netdevRules() []rule {
	kind := func(proto uint16) func() []expr.Any {
		return func() []expr.Any { return is(expr.MetaKeyPROTOCOL, byte(proto>>8), byte(proto)) }
	}
	return append(ipRules(kind(unix.ETH_P_IP), kind(unix.ETH_P_IPV6)),
		refuse(kind(unix.ETH_P_ARP)(), expr.PayloadBaseNetworkHeader, arpSender, addr4, ofSender))
}

func ipRules(v4, v6 func() []expr.Any) []rule {
	return []rule{
		refuse(v4(), expr.PayloadBaseNetworkHeader, ipv4Source, addr4, ofSource),
		refuse(v6(), expr.PayloadBaseNetworkHeader, ipv6Source, addr6, ofSource),
		// Not by its source, which may be a link-local address.
		refuse(advertisement(v6()), expr.PayloadBaseTransportHeader, naTarget, addr6, ofNeighbour),
	}
}
