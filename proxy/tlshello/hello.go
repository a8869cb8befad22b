// Package tlshello reads what a TLS client says first, its ClientHello (RFC 8446
// section 4.1.2), as far as it says where the connection is meant to go: the server's
// name, the protocols offered, and whether the true ones are encrypted.
package tlshello

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
)

// Errors of [Parse].
var (
	// ErrMore: so far it is a ClientHello, and more of it must be read.
	ErrMore = errors.New("the ClientHello goes on")
	// ErrNotTLS: it is no ClientHello, and no more bytes will make it one.
	ErrNotTLS = errors.New("no TLS ClientHello")
)

// Values of RFC 8446 (types), RFC 6066 (server_name), RFC 7301 (ALPN) and RFC 9849 (ECH).
const (
	recordHandshake = 22
	recordHeader    = 5
	recordMax       = 1<<14 + 2048 // RFC 5246 section 6.2.3; a plain one is shorter

	messageClientHello = 1
	messageMax         = 1 << 16 // of the body, as in crypto/tls

	extensionName = 0
	extensionALPN = 16
	extensionECH  = 0xfe0d

	nameHost = 0
	echInner = 1
)

// Hello is what a ClientHello says. The zero Hello names no server, offers no protocol
// and has nothing encrypted. It may be used by several goroutines at once while nobody
// writes into the bytes that it was read from.
type Hello struct {
	// ServerName is the host_name that the client asks for, as the client spelt it: in any
	// case, with a dot at its end, or no name at all. "" when it asks for none.
	ServerName string
	// ECH says that there may be another ClientHello within this one, encrypted (Encrypted
	// Client Hello): what stands here is then the outer one, and the name and the protocols
	// that the server will go by may be others. Clients send the like without meaning it
	// (GREASE, RFC 9849 section 6.2), which nobody but the server can tell apart.
	ECH bool

	protocols cryptobyte.String // the body of ALPN's list, checked
}

// Protocols returns the application protocols offered by ALPN, such as "h2", the
// preferred one first; nil when there are none. It allocates, and reads from the bytes
// that were given to [Parse].
func (h Hello) Protocols() []string {
	var names []string
	var p cryptobyte.String
	for list := h.protocols; list.ReadUint8LengthPrefixed(&p); {
		names = append(names, string(p))
	}
	return names
}

// Parse reads the ClientHello that b begins with; what comes behind it is not looked at.
// The handshake message may be spread over records (RFC 8446 section 5.1). Apart from
// the three extensions that Hello speaks of, which may each be there once, nothing is
// judged: whether the ClientHello makes sense is for the server to say.
//
// The error is ErrMore or ErrNotTLS, and the Hello then the zero one. The Hello holds on
// to b, which must not be written into as long as it is used.
func Parse(b []byte) (Hello, error) {
	m, err := message(b)
	if err != nil {
		return Hello{}, err
	}
	var passed, extensions cryptobyte.String
	if !m.Skip(2+32) || // legacy_version, random
		!m.ReadUint8LengthPrefixed(&passed) || // legacy_session_id
		!m.ReadUint16LengthPrefixed(&passed) || // cipher_suites
		!m.ReadUint8LengthPrefixed(&passed) { // legacy_compression_methods
		return Hello{}, ErrNotTLS
	}
	if m.Empty() {
		return Hello{}, nil // no extensions, as before TLS 1.2
	}
	if !m.ReadUint16LengthPrefixed(&extensions) || !m.Empty() {
		return Hello{}, ErrNotTLS
	}
	return parseExtensions(extensions)
}

func parseExtensions(extensions cryptobyte.String) (h Hello, err error) {
	var name, alpn, ech bool // already seen: none may come twice (RFC 8446 section 4.2)
	for !extensions.Empty() {
		var kind uint16
		var body cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&body) {
			return Hello{}, ErrNotTLS
		}
		ok, twice := true, false
		switch kind {
		case extensionName:
			twice, name = name, true
			h.ServerName, ok = hostName(body)
		case extensionALPN:
			twice, alpn = alpn, true
			h.protocols, ok = protocolList(body)
		case extensionECH:
			twice, ech = ech, true
			// The inner kind, which has nothing behind its type, is no encrypted hello: it says
			// that this one was, and comes from a server that has decrypted it. What is neither
			// is taken for encrypted.
			h.ECH = len(body) != 1 || body[0] != echInner
		}
		if !ok || twice {
			return Hello{}, ErrNotTLS
		}
	}
	return h, nil
}

// hostName is the host_name of a server_name_list, "" when it has none.
func hostName(body cryptobyte.String) (name string, ok bool) {
	var list cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&list) || !body.Empty() || list.Empty() {
		return "", false
	}
	for !list.Empty() {
		var kind uint8
		var n cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&n) || n.Empty() {
			return "", false
		}
		if kind != nameHost {
			continue
		}
		if name != "" {
			return "", false // two of one type
		}
		name = string(n)
	}
	return name, true
}

// protocolList is the list of an ALPN extension, after a look at all its items.
func protocolList(body cryptobyte.String) (list cryptobyte.String, ok bool) {
	if !body.ReadUint16LengthPrefixed(&list) || !body.Empty() || list.Empty() {
		return nil, false
	}
	var p cryptobyte.String
	for rest := list; !rest.Empty(); {
		if !rest.ReadUint8LengthPrefixed(&p) || p.Empty() {
			return nil, false
		}
	}
	return list, true
}
