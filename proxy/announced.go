package proxy

import (
	"bytes"
	"errors"
	"net/netip"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/proxyheader"
)

// A load balancer among ProxyFrom says in front of what a client sends who that is: by a header
// of the PROXY protocol, which must be there. Of anybody else it would be a way to be somebody.

// What is told to whose header is none, or is not wanted.
var (
	errNoHeader    = &http1.Error{Status: 400, Msg: "a PROXY protocol header must come first from this address, which is among --proxy-protocol-from"}
	errBadHeader   = &http1.Error{Status: 400, Msg: "the PROXY protocol header cannot be read"}
	errTwoHeaders  = &http1.Error{Status: 400, Msg: "a second PROXY protocol header"}
	errNotBalancer = &http1.Error{Status: 400, Msg: "a PROXY protocol header, and this address is not among --proxy-protocol-from"}
)

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// announces reports whether the connections of a peer begin with a PROXY header. Those of the
// gateway itself never do: whoever has it connect to itself could be anybody.
func (s *Server) announces(peer netip.Addr) bool {
	if len(s.ProxyFrom) > 0 && s.live.Load().Own(peer) {
		return false
	}
	for _, p := range s.ProxyFrom {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// placesFor are the limits for a connection of that peer, before anything has come.
func (s *Server) placesFor(peer netip.Addr) door.Limits {
	l := door.Limits{Conns: s.MaxConns}
	if !s.announces(peer) {
		l.ConnsPerClient = s.clientLimit(peer)
	}
	return l
}

func (s *Server) clientLimit(client netip.Addr) int {
	return s.live.Load().Tenant(client).Limits.ConnsPerClient
}

// meet reads the header that announces who the client is. When it can't be used the client is
// told so, and met is false.
func (c goConn) meet() (met bool) {
	c.announced = false
	client, err := c.readAnnounced()
	if err == nil && client.IsValid() && c.becomes(client) != 0 {
		c.answerFirst(func(x goExchange) { x.answer(answer.FullForClient()) })
		return false
	}
	if bad := (*http1.Error)(nil); errors.As(err, &bad) {
		c.answerFirst(func(x goExchange) { x.refuseMessage(bad) })
	}
	return err == nil
}

// answerFirst ends a connection with an answer before any request.
func (c goConn) answerFirst(with func(goExchange)) {
	x := exchanges.Get().(*exchange)
	x.begin(c.conn)
	with(goExchange{x, c})
	goExchange{x, c}.end()
}

// readAnnounced reads the header, and nothing behind it. The client is invalid if the balancer
// speaks for itself.
func (c goConn) readAnnounced() (client netip.AddrPort, err error) {
	if err := c.setLimit(c.srv.HeadTimeout); err != nil {
		return client, err
	}
	for {
		n, limit, err := proxyheader.Length(c.buffered())
		switch have := len(c.buffered()); {
		case err == proxyheader.ErrNone:
			return client, errNoHeader
		case err != nil, n == 0 && have >= limit:
			return client, errBadHeader
		case n > 0 && n <= have:
			client, _, err := proxyheader.Parse(c.buffered()[:n])
			if a := client.Addr(); err != nil || client.IsValid() && (a.IsUnspecified() || a.IsMulticast() || a == broadcast) {
				return client, errBadHeader // nobody has such an address
			}
			c.r += n
			return client, nil
		}
		c.waiting.Store(waitFirst) // before the look, as in waitForRequest
		if c.srv.door.Draining() {
			c.setLimit(firstGrace)
		}
		err = c.fill()
		c.waiting.Store(notWaiting)
		if err != nil {
			return client, err
		}
	}
}

// becomes has the connection count as that client's from now on.
func (c goConn) becomes(client netip.AddrPort) door.Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := door.Limits{ConnsPerClient: c.srv.clientLimit(client.Addr())}
	return c.srv.door.Become(c.conn, client.Addr(), l, func() { c.client = client })
}

// unaskedHeader says that what begins so, and is no request, is the PROXY header of somebody whose
// word does not count. Empty lines in front of it have been skipped, and of version 2's more may
// be to come.
func unaskedHeader(b []byte) bool {
	const v1, v2 = "PROXY ", "\x00\r\nQUIT\n"
	return bytes.HasPrefix(b, []byte(v1)) || len(b) > 0 && bytes.HasPrefix([]byte(v2), b[:min(len(b), len(v2))])
}
