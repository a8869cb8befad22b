package netsetup

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
)

// This file has the pieces of a rule as the kernel has them. They are those that
// nft makes of the words; a test loads both and compares.

func count() []expr.Any { return []expr.Any{&expr.Counter{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func ifname(key expr.MetaKey, name string) []expr.Any {
	const size = 16 // IFNAMSIZ
	b := make([]byte, size)
	copy(b, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b},
	}
}

// saddr matches the source address in the IP header.
func saddr(a netip.Addr) []expr.Any {
	offset, size := uint32(12), uint32(4)
	if a.Is6() {
		offset, size = 8, 16
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

// ctStatusDNAT matches packets, both ways, of connections whose destination was
// translated.
func ctStatusDNAT() []expr.Any {
	const dstNAT = 1 << 5 // IPS_DST_NAT
	zero := []byte{0, 0, 0, 0}
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, dstNAT), Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: zero},
	}
}

// translate changes an address, and a port unless it is 0.
func translate(kind expr.NATType, to netip.Addr, port uint16) []expr.Any {
	const nfprotoIPv4, nfprotoIPv6 = 2, 10
	// A range of one: the kernel says it in full, so that this is what is read back.
	n := &expr.NAT{Type: kind, Family: nfprotoIPv4, RegAddrMin: 1, RegAddrMax: 1}
	if to.Is6() {
		n.Family = nfprotoIPv6
	}
	es := []expr.Any{&expr.Immediate{Register: 1, Data: to.AsSlice()}}
	if port != 0 {
		es = append(es, &expr.Immediate{Register: 2, Data: be16(port)})
		n.RegProtoMin, n.RegProtoMax, n.Specified = 2, 2, true
	}
	return append(es, n)
}
