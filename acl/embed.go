package acl

import "net/netip"

// An embedding is a way in which IPv6 addresses embed an IPv4 address.
type embedding struct {
	space   netip.Prefix // only addresses in it do
	at      int          // byte of the first of the four
	split   bool         // byte 8 stands between them (RFC 6052 section 2.2)
	flipped bool         // every bit is inverted
	marked  bool         // behind an ISATAP marker
	guess   bool         // one of several readings of the same space
}

// Indexes of embeddings. Those from embedFree on have bits in front of the IPv4 address
// that say nothing, so that a prefix has more than one image of them.
const (
	embedNAT64 = iota
	embedLocal48
	embed6to4
	embedTeredoServer
	embedCompatible
	embedTranslated
	embedTeredoClient
	embedISATAP
	embedLocal56
	embedLocal64
	embedLocal96

	embedFree = embedTeredoClient
)

// embedLocals are the readings of the prefix for translators of local use: it may be
// theirs as a whole, or any longer one inside it that RFC 6052 section 2.2 knows, and
// only their operator knows which.
var embedLocals = [...]int{embedLocal48, embedLocal56, embedLocal64, embedLocal96}

var embeddings = [...]embedding{
	embedNAT64:        {space: netip.MustParsePrefix("64:ff9b::/96"), at: 12},                            // RFC 6052 section 2.1
	embedLocal48:      {space: netip.MustParsePrefix("64:ff9b:1::/48"), at: 6, split: true, guess: true}, // RFC 8215
	embed6to4:         {space: netip.MustParsePrefix("2002::/16"), at: 2},                                // RFC 3056 section 2
	embedTeredoServer: {space: netip.MustParsePrefix("2001::/32"), at: 4},                                // RFC 4380 section 4
	embedCompatible:   {space: netip.MustParsePrefix("::/96"), at: 12},                                   // RFC 4291 section 2.5.5.1
	embedTranslated:   {space: netip.MustParsePrefix("::ffff:0:0:0/96"), at: 12},                         // RFC 2765 section 2.1
	embedTeredoClient: {space: netip.MustParsePrefix("2001::/32"), at: 12, flipped: true},                // RFC 4380 section 4
	embedISATAP:       {space: netip.MustParsePrefix("::/0"), at: 12, marked: true},                      // RFC 5214 section 6.1
	embedLocal56:      {space: netip.MustParsePrefix("64:ff9b:1::/48"), at: 7, split: true, guess: true},
	embedLocal64:      {space: netip.MustParsePrefix("64:ff9b:1::/48"), at: 9, guess: true},
	embedLocal96:      {space: netip.MustParsePrefix("64:ff9b:1::/48"), at: 12, guess: true},
}

// notCompatible are the two addresses of ::/96 that embed nothing: unspecified
// and loopback (RFC 4291 sections 2.5.2 and 2.5.3).
var notCompatible = netip.MustParsePrefix("::/127")

// An inner is an IPv4 address that an address embeds, and how.
type inner struct {
	addr netip.Addr
	how  *embedding
}

// inners are all that one address embeds: Teredo has two, NAT64 of local use four
// readings, and ISATAP may stand behind any prefix.
type inners struct {
	list [len(embedLocals) + 1]inner
	n    int
}

func (x *inners) add(b *[16]byte, how int) {
	e := &embeddings[how]
	a := e.extract(b)
	if e.guess && a.As4()[0] == 0 {
		return // what a wrong guess finds; no translator sends to 0.0.0.0/8
	}
	x.list[x.n] = inner{a, e}
	x.n++
}

// embedded adds the IPv4 addresses that a, an IPv6 address, embeds.
func (x *inners) embedded(a netip.Addr) {
	b := a.As16()
	switch head := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]); {
	case head == 0x0064ff9b:
		if embeddings[embedNAT64].space.Contains(a) {
			x.add(&b, embedNAT64)
		} else if b[4] == 0 && b[5] == 1 {
			for _, how := range embedLocals {
				x.add(&b, how)
			}
		}
	case head>>16 == 0x2002:
		x.add(&b, embed6to4)
	case head == 0x20010000:
		x.add(&b, embedTeredoServer)
		x.add(&b, embedTeredoClient)
	case head == 0:
		if embeddings[embedCompatible].space.Contains(a) && !notCompatible.Contains(a) {
			x.add(&b, embedCompatible)
		} else if embeddings[embedTranslated].space.Contains(a) {
			x.add(&b, embedTranslated)
		}
	}
	// The marker's second bit says whether the IPv4 address is globally unique.
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		x.add(&b, embedISATAP)
	}
}

// extract returns the IPv4 address that stands in b.
func (e *embedding) extract(b *[16]byte) netip.Addr {
	var v [4]byte
	copy(v[:], b[e.at:])
	if e.split {
		copy(v[8-e.at:], b[9:])
	}
	if e.flipped {
		for i := range v {
			v[i] = ^v[i]
		}
	}
	return netip.AddrFrom4(v)
}

// put writes an IPv4 address to where extract finds it.
func (e *embedding) put(b *[16]byte, a netip.Addr) {
	v := a.As4()
	if e.flipped {
		for i := range v {
			v[i] = ^v[i]
		}
	}
	if e.split {
		copy(b[e.at:], v[:8-e.at])
		copy(b[9:], v[8-e.at:])
		return
	}
	copy(b[e.at:], v[:])
}

// depth is how long a prefix is that says of embedding addresses what one of bits says
// of the embedded ones.
func (e *embedding) depth(bits int) int {
	if e.split && e.at*8+bits > 64 {
		bits += 8
	}
	return e.at*8 + bits
}

// image returns the addresses that embed those of p, an IPv4 prefix; of those whose
// byte between is 0, and with bits that say nothing as 0.
func (e *embedding) image(p netip.Prefix) netip.Prefix {
	b := e.space.Addr().As16()
	if e.marked {
		b[10], b[11] = 0x5e, 0xfe
	}
	e.put(&b, p.Addr())
	return netip.PrefixFrom(netip.AddrFrom16(b), e.depth(p.Bits())).Masked()
}
