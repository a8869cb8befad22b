package tcp

import "errors"

// Errors of [ServerName].
var (
	// ErrMore: so far it is a ClientHello, and more of it must be read.
	ErrMore = errors.New("the ClientHello goes on")
	// ErrNotTLS: it is no ClientHello.
	ErrNotTLS = errors.New("no TLS ClientHello")
)

const (
	recordHandshake    = 22
	recordHeader       = 5
	maxRecord          = 1<<14 + 2048 // RFC 5246 section 6.2.3; a plain one is shorter
	handshakeHello     = 1
	handshakeHeader    = 4
	extensionName      = 0
	nameTypeHost       = 0
	maxHandshakeLength = 1 << 16
)

// ServerName returns the server name (RFC 6066 section 3) of the TLS ClientHello
// that b begins with, "" when it has none, as the client spelt it. It looks at
// nothing else: whether the ClientHello makes sense is for the server to judge.
// The handshake message may be spread over records (RFC 8446 section 5.1).
func ServerName(b []byte) (string, error) {
	hello, err := handshake(b)
	if err != nil {
		return "", err
	}
	m := reader{hello, true}
	m.skip(2 + 32)    // legacy_version, random
	m.take(m.uint(1)) // legacy_session_id
	m.take(m.uint(2)) // cipher_suites
	m.take(m.uint(1)) // legacy_compression_methods
	if m.ok && len(m.b) == 0 {
		return "", nil // no extensions, as before TLS 1.2
	}
	extensions := reader{m.take(m.uint(2)), m.ok}
	if !m.ok || len(m.b) != 0 {
		return "", ErrNotTLS
	}
	name, seen := "", false
	for extensions.ok = m.ok; extensions.ok && len(extensions.b) > 0; {
		kind := extensions.uint(2)
		body := extensions.take(extensions.uint(2))
		if !extensions.ok {
			return "", ErrNotTLS
		}
		if kind != extensionName {
			continue
		}
		if seen {
			return "", ErrNotTLS // two of one kind (RFC 8446 section 4.2)
		}
		seen = true
		if name, err = hostName(body); err != nil {
			return "", err
		}
	}
	return name, nil
}

// hostName is the host_name of the extension's server_name_list.
func hostName(body []byte) (string, error) {
	m := reader{body, true}
	list := reader{m.take(m.uint(2)), true}
	if !m.ok || len(m.b) != 0 || len(list.b) == 0 {
		return "", ErrNotTLS
	}
	name := ""
	for len(list.b) > 0 {
		kind := list.uint(1)
		n := list.take(list.uint(2))
		if !list.ok || len(n) == 0 {
			return "", ErrNotTLS
		}
		if kind != nameTypeHost {
			continue
		}
		if name != "" {
			return "", ErrNotTLS // two of one type
		}
		name = string(n)
	}
	return name, nil
}

// handshake is the body of the ClientHello in the records that b begins with.
func handshake(b []byte) ([]byte, error) {
	var message []byte
	for {
		if want, ok := messageLength(message); ok {
			switch {
			case message[0] != handshakeHello, want > maxHandshakeLength:
				return nil, ErrNotTLS
			case len(message) >= want:
				return message[handshakeHeader:want], nil
			}
		}
		// What has come of the record's header must look like one.
		if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
			return nil, ErrNotTLS
		}
		if len(b) < recordHeader {
			return nil, ErrMore
		}
		n := int(b[3])<<8 | int(b[4])
		if n == 0 || n > maxRecord {
			return nil, ErrNotTLS
		}
		part := b[recordHeader:min(len(b), recordHeader+n)]
		message = append(message, part...)
		if len(message) > 0 && message[0] != handshakeHello {
			return nil, ErrNotTLS
		}
		if len(part) < n {
			if want, ok := messageLength(message); !ok || want <= maxHandshakeLength && len(message) < want {
				return nil, ErrMore
			}
			b = nil
			continue
		}
		b = b[recordHeader+n:]
	}
}

// messageLength is the length of a handshake message with its header, once that
// is there.
func messageLength(m []byte) (int, bool) {
	if len(m) < handshakeHeader {
		return 0, false
	}
	return handshakeHeader + int(m[1])<<16 + int(m[2])<<8 + int(m[3]), true
}

// reader takes a message apart. Once something was missing, ok is false and all
// that is read is empty.
type reader struct {
	b  []byte
	ok bool
}

// take is the next n bytes.
func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok, r.b = false, nil
		return nil
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) skip(n int) { r.take(n) }

// uint is the next number of n octets.
func (r *reader) uint(n int) int {
	v := 0
	for _, c := range r.take(n) {
		v = v<<8 | int(c)
	}
	return v
}
