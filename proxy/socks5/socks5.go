// Package socks5 reads what a client of SOCKS 5 says (RFC 1928), with its user name and password
// (RFC 1929), and has the replies. It is bytes in, bytes out.
//
// A client speaks in up to three messages: a greeting with the methods that it can authenticate
// by, a login if the server chose that method, and its request. Each is read from the start of
// what has come; [ErrMore] says that it is not whole yet. No message is longer than [Most].
package socks5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

// Version is the first byte of greetings and requests.
const Version = 5

// Most is the length of the longest message: a login of two texts of 255 bytes.
const Most = 1 + 2*(1+255)

// Methods by which a client can authenticate (RFC 1928 section 3).
const (
	NoLogin      = 0x00
	Login        = 0x02 // user name and password, RFC 1929
	NoAcceptable = 0xff // the server's word that it takes none of those offered
)

// Commands (RFC 1928 section 4).
const (
	Connect      = 1
	Bind         = 2
	UDPAssociate = 3
)

// A Reply is what a server says of a request (RFC 1928 section 6).
type Reply uint8

// The replies.
const (
	Succeeded  Reply = iota
	Failed           // for none of the reasons below
	NotAllowed       // by the rules
	NetUnreachable
	HostUnreachable
	Refused        // by the host
	TTLExpired     // too slow
	UnknownCommand // or one that is not served
	UnknownAddressType
)

// ErrMore says that so far it is a message, and more of it must come.
var ErrMore = errors.New("the message goes on")

// Error is a message that must not be acted upon.
type Error struct {
	Msg   string
	Reply Reply // to it, if it is a request
}

func (e *Error) Error() string { return e.Msg }

// Errors that a client's messages can have.
var (
	ErrVersion     = &Error{"no SOCKS 5: the first byte is none of its", Failed}
	ErrSOCKS4      = &Error{"SOCKS 4 is not served: use SOCKS 5", Failed}
	ErrHTTP        = &Error{"this is a SOCKS 5 port, and the client speaks HTTP or TLS", Failed}
	ErrMethods     = &Error{"a SOCKS greeting without methods", Failed}
	ErrLogin       = &Error{"a SOCKS login of another version than 1", Failed}
	ErrReserved    = &Error{"a SOCKS request whose reserved byte is not 0", Failed}
	ErrAddressType = &Error{"a SOCKS request with an unknown type of address", UnknownAddressType}
	ErrNoName      = &Error{"a SOCKS request for a name of no length", Failed}
	ErrBind        = &Error{"BIND is not served", UnknownCommand}
	ErrUDP         = &Error{"UDP ASSOCIATE is not served", UnknownCommand}
	ErrCommand     = &Error{"an unknown SOCKS command", UnknownCommand}
)

// ParseGreeting reads a greeting from the start of b and returns its length, and the methods that
// the client offers: a part of b.
func ParseGreeting(b []byte) (methods []byte, n int, err error) {
	if len(b) == 0 {
		return nil, 0, ErrMore
	}
	if b[0] != Version {
		return nil, 0, otherProtocol(b[0])
	}
	if len(b) < 2 {
		return nil, 0, ErrMore
	}
	if n = 2 + int(b[1]); n == 2 {
		return nil, 0, ErrMethods
	}
	if len(b) < n {
		return nil, 0, ErrMore
	}
	return b[2:n], n, nil
}

// otherProtocol says what a client speaks whose first byte is no greeting's.
func otherProtocol(first byte) error {
	switch {
	case first == 4:
		return ErrSOCKS4
	case first == 0x16 || first >= 'A' && first <= 'Z':
		return ErrHTTP
	}
	return ErrVersion
}

// Offers reports whether method is among methods.
func Offers(methods []byte, method byte) bool { return bytes.IndexByte(methods, method) >= 0 }

// ParseLogin reads a login from the start of b and returns its length; user and password are
// parts of b.
func ParseLogin(b []byte) (user, password []byte, n int, err error) {
	if len(b) > 0 && b[0] != 1 {
		return nil, nil, 0, ErrLogin
	}
	user, n, ok := text(b, 1)
	if ok {
		password, n, ok = text(b, n)
	}
	if !ok {
		return nil, nil, 0, ErrMore
	}
	return user, password, n, nil
}

// text is a text at b[at:] behind a byte with its length, and where it ends.
func text(b []byte, at int) (s []byte, end int, ok bool) {
	if len(b) <= at {
		return nil, 0, false
	}
	if end = at + 1 + int(b[at]); len(b) < end {
		return nil, 0, false
	}
	return b[at+1 : end], end, true
}

// Request is what a client asks for. The zero Request asks for nothing.
type Request struct {
	Command byte
	Name    []byte     // a part of what was parsed, as the client wrote it; nil: Addr
	Addr    netip.Addr // invalid: Name
	Port    uint16
}

// Types of address (RFC 1928 section 5).
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// ParseRequest reads a request from the start of b and returns its length. An *Error has the
// Reply to it.
func ParseRequest(b []byte) (r Request, n int, err error) {
	if len(b) > 0 && b[0] != Version {
		return r, 0, ErrVersion
	}
	if len(b) > 2 && b[2] != 0 {
		return r, 0, ErrReserved
	}
	at, size, err := hostAt(b)
	if err != nil {
		return r, 0, err
	}
	if n = at + size + 2; len(b) < n {
		return r, 0, ErrMore
	}
	r.Command, r.Port = b[1], binary.BigEndian.Uint16(b[n-2:])
	if host := b[at : n-2]; b[3] == typeName {
		r.Name = host
	} else {
		r.Addr, _ = netip.AddrFromSlice(host)
	}
	return r, n, r.command()
}

// hostAt says where in a request the name or address is.
func hostAt(b []byte) (at, size int, err error) {
	const typeAt = 3
	if len(b) <= typeAt {
		return 0, 0, ErrMore
	}
	at = typeAt + 1
	switch b[typeAt] {
	case typeIPv4:
		return at, 4, nil
	case typeIPv6:
		return at, 16, nil
	case typeName:
		if len(b) <= at {
			return 0, 0, ErrMore
		}
		if b[at] == 0 {
			return 0, 0, ErrNoName
		}
		return at + 1, int(b[at]), nil
	}
	return 0, 0, ErrAddressType
}

// command says why the command is not served; nil: it is.
func (r *Request) command() error {
	switch r.Command {
	case Connect:
		return nil
	case Bind:
		return ErrBind
	case UDPAssociate:
		return ErrUDP
	}
	return ErrCommand
}

var methods = [...][]byte{[]byte("UNKNOWN"), Connect: []byte("CONNECT"), Bind: []byte("BIND"), UDPAssociate: []byte("UDP-ASSOCIATE")}

// Method is the command as a word for the log. It must not be written to.
func (r *Request) Method() []byte {
	if int(r.Command) < len(methods) {
		return methods[r.Command]
	}
	return methods[0]
}

// AppendAuthority writes where to, as HOST:PORT. What is no name in Name stays none: nothing is
// repaired, and an address there has to be in brackets if it has colons.
func (r *Request) AppendAuthority(b []byte) []byte {
	switch {
	case r.Addr.Is4():
		b = r.Addr.AppendTo(b)
	case r.Addr.IsValid():
		b = append(r.Addr.AppendTo(append(b, '[')), ']')
	case bytes.IndexByte(r.Name, ':') >= 0 && r.Name[0] != '[':
		b = append(append(append(b, '['), r.Name...), ']')
	default:
		b = append(b, r.Name...)
	}
	return strconv.AppendUint(append(b, ':'), uint64(r.Port), 10)
}

// AppendMethod writes the answer to a greeting: the method that was chosen.
func AppendMethod(b []byte, method byte) []byte { return append(b, Version, method) }

// AppendLogin writes the answer to a login.
func AppendLogin(b []byte, ok bool) []byte {
	if ok {
		return append(b, 1, 0)
	}
	return append(b, 1, 1)
}

// ReplySize is the length of what AppendReply writes, in bytes.
const ReplySize = 10

// AppendReply writes the answer to a request. The address that the server sees is not told: it
// stays within.
func AppendReply(b []byte, r Reply) []byte {
	return append(b, Version, byte(r), 0, typeIPv4, 0, 0, 0, 0, 0, 0)
}
