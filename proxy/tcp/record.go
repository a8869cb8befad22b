package tcp

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/proxy/accesslog"
)

// progress is what has become of a connection so far. The record is made of it.
type progress struct {
	start       time.Time
	client      netip.AddrPort // as the PROXY header said, if one was read
	serverName  string         // of TLS, when the port looks at it
	destination string         // HOST:PORT as configured; "" when none was reached

	addr           netip.AddrPort // of the server; invalid: none
	source         netip.Addr     // that the server saw
	attempts       int            // to connect
	connect        time.Duration  // that the attempt took which succeeded
	received, sent int64

	refused, why string // cause, as the metrics name it, and more of it or of another end
}

// fillRecord makes the record of a session that has ended so. Nobody else writes to it.
func (x *session) fillRecord(e end) {
	d := &x.did
	x.rec = accesslog.Connection{
		Common: accesslog.Common{Start: d.start, Client: d.client, Addr: d.addr, Source: d.source,
			Received: d.received, Sent: d.sent, Connect: d.connect, Total: time.Since(d.start), Error: d.why,
			Policy: x.policy, Revoked: x.Revocation()},
		Listener: x.port.label, Name: x.port.plan.Load().Name, Peer: x.peer,
		ServerName: d.serverName, Destination: d.destination, Attempts: d.attempts,
		End: endNames[e], Refused: d.refused,
	}
}
