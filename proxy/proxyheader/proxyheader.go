// Package proxyheader reads the header of the PROXY protocol, version 1 and 2
// (haproxy's proxy-protocol.txt), that a load balancer sends in front of what a client sends.
package proxyheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

// Limits of a header, in octets.
const (
	maxV1 = 107     // by the protocol
	maxV2 = 4 << 10 // 16 octets, addresses and extensions
)

// ErrNone says that there is no such header where one must be.
var ErrNone = errors.New("no PROXY protocol header")

var v1, v2 = []byte("PROXY "), []byte("\r\n\r\n\x00\r\nQUIT\n")

// Length is the length of the header that b begins with, 0 while it can't be told, and how
// many octets may be read to find its end. So nothing behind it is read.
func Length(b []byte) (n, limit int, err error) {
	switch {
	case len(b) >= len(v1) && bytes.HasPrefix(b, v1):
		if i := bytes.IndexByte(b[:min(len(b), maxV1)], '\n'); i >= 0 {
			return i + 1, maxV1, nil
		}
		if len(b) >= maxV1 {
			return 0, 0, tooLong(maxV1)
		}
		return 0, maxV1, nil
	case len(b) >= len(v2) && bytes.HasPrefix(b, v2):
		if len(b) < 16 {
			return 0, maxV2, nil
		}
		n := 16 + int(binary.BigEndian.Uint16(b[14:]))
		if n > maxV2 {
			return 0, 0, fmt.Errorf("a PROXY protocol header of %d bytes", n)
		}
		return n, maxV2, nil
	case bytes.HasPrefix(v1, b) || bytes.HasPrefix(v2, b):
		return 0, maxV1, nil
	}
	return 0, 0, ErrNone
}

func tooLong(limit int) error { return fmt.Errorf("more than %d bytes without an end", limit) }

// Parse reads the header that b is, as Length has found it: who the client is, and where it
// came to. Both are invalid when it speaks for the sender itself (LOCAL), or does not know.
func Parse(b []byte) (client, local netip.AddrPort, err error) {
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return client, local, err
	}
	if src, dst, ok := h.TCPAddrs(); ok && h.Command == proxyproto.PROXY {
		return addrPort(src), addrPort(dst), nil
	}
	return client, local, nil
}

// Make is the header of that version for the connection of a client; one that says nothing,
// if that can't be told.
func Make(version int, client, local netip.AddrPort) []byte {
	h := proxyproto.HeaderProxyFromAddrs(byte(version), net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(local))
	b, err := h.Format()
	if err != nil {
		b, _ = (&proxyproto.Header{Version: byte(version), Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	}
	return b
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
