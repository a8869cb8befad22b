package tcp

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/proxyheader"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/tlshello"
)

// maxHello bounds a ClientHello; those of today have 0.5 to 2 KiB.
const maxHello = 16 << 10

// more reads what the client sends next behind what was read, up to limit bytes
// in all.
func (x goSession) more(limit int) error {
	n := len(x.early)
	if n >= limit {
		return fmt.Errorf("more than %d bytes without an end", limit)
	}
	if n == cap(x.early) {
		grown := make([]byte, n, min(max(2048, 2*n), limit))
		copy(grown, x.early)
		x.early = grown
	}
	got, err := x.client.Read(x.early[n:min(cap(x.early), limit)])
	x.early = x.early[:n+got]
	if got > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the client closed before it had said where to")
	}
	return err
}

// readsHead reports whether a peer must say something before a destination is chosen.
func (pl *plan) readsHead(peer netip.Addr) bool { return pl.names != nil || pl.trusts(peer) }

// trusts reports whether a peer must send a PROXY protocol header.
func (pl *plan) trusts(peer netip.Addr) bool {
	for _, p := range pl.AcceptProxy {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// readProxyHeader reads the header and leaves what follows it in early. It finds
// the header's end by itself, so that one that comes in pieces is read, and
// nothing behind it.
func (x goSession) readProxyHeader() error {
	for {
		n, limit, err := proxyheader.Length(x.early)
		if err != nil {
			return err
		}
		if n == 0 || n > len(x.early) {
			if err := x.more(limit); err != nil {
				return err
			}
			continue
		}
		client, local, err := proxyheader.Parse(x.early[:n])
		if err != nil {
			return err
		}
		x.early = append([]byte(nil), x.early[n:]...)
		if client.IsValid() {
			x.did.client, x.local = client, local
		}
		return nil
	}
}

// proxyHeader is what a destination is told of the client.
func (x *session) proxyHeader(version int) []byte {
	local := x.local
	if !local.IsValid() {
		local = x.client.Local()
	}
	return proxyheader.Make(version, x.did.client, local)
}

// sendHead sends the PROXY header and the bytes that were read early. It reports
// false when they were not taken in time; that the destination has gone away is
// found, and told to the client, by the relay.
func (x goSession) sendHead(pl *plan, up sock.Blocking) bool {
	var head []byte
	if pl.SendProxy > 0 {
		head = x.proxyHeader(pl.SendProxy)
	}
	if head = append(head, x.early...); len(head) == 0 {
		return true
	}
	up.SetWriteDeadline(time.Now().Add(x.srv.live.Load().connectTimeout))
	_, err := up.Write(head)
	up.SetWriteDeadline(time.Time{})
	if x.Why() != 0 {
		up.SetDeadline(time.Unix(1, 0))
	}
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// readServerName reads the ClientHello, and leaves it in early. What is no TLS, or
// names no server, has no server name.
func (x goSession) readServerName() error {
	for {
		hello, err := tlshello.Parse(x.early)
		switch {
		case err == nil:
			if h, err := acl.ParseHost(hello.ServerName); err == nil {
				x.did.serverName = h.Name()
			}
			return nil
		case !errors.Is(err, tlshello.ErrMore):
			return nil // no TLS: for the default destination, if there is one
		}
		if err := x.more(maxHello); err != nil {
			return err
		}
	}
}

// route is the group for a server name: the exact one, else that of the nearest
// domain, else the default.
func (pl *plan) route(name string) *group {
	if pl.names == nil || name == "" {
		return pl.fallback
	}
	if g := pl.names[name]; g != nil {
		return g
	}
	for rest := "." + name; rest != ""; {
		if g := pl.names[rest]; g != nil {
			return g
		}
		i := strings.IndexByte(rest[1:], '.')
		if i < 0 {
			break
		}
		rest = rest[1+i:]
	}
	return pl.fallback
}
