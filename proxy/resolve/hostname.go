package resolve

import (
	"errors"
	"net/netip"
	"strings"
)

var errNotHost = errors.New("not a host name")

var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// localhost is the loopback addresses for localhost and the names below it (RFC
// 6761 section 6.3), else nil.
func localhost(name string) []netip.Addr {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return loopback
	}
	return nil
}

// neverAsked is why no server may be asked for name: it is no host name, or of a
// special-use domain that DNS does not know.
func neverAsked(name string) error {
	if !isHostName(name) {
		return &Error{Name: name, Kind: NotFound, Err: errNotHost}
	}
	for _, special := range []string{"invalid", "onion"} { // RFC 6761 section 6.4, RFC 7686 section 2
		if name == special || strings.HasSuffix(name, "."+special) {
			return &Error{Name: name, Kind: NotFound, Code: codeNXDomain}
		}
	}
	return nil
}

// isHostName is the last line of defence behind acl: nothing with an escape, a
// space or an empty label, and no address, goes into a question.
func isHostName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	_, err := netip.ParseAddr(name)
	return err != nil
}
