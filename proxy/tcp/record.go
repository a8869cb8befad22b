package tcp

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/proxy/logline"
)

// Record is what the log says of one connection.
type Record struct {
	Start       time.Time
	Listener    string         // its label
	Name        string         // of the listener, "" for none
	Client      netip.AddrPort // as the PROXY header said, if one was read
	Peer        netip.AddrPort // who connected: the client, or a load balancer
	ServerName  string         // of TLS, when the port looks at it
	Destination string         // HOST:PORT as configured; "" when none was reached
	Addr        netip.AddrPort // connected to
	Source      netip.Addr     // that the destination saw
	Attempts    int            // to connect
	Connect     time.Duration  // of the attempt that succeeded
	Total       time.Duration
	Received    int64  // bytes from the client
	Sent        int64  // bytes to the client
	End         string // "closed", "reset", "idle", "shutdown" or "refused"
	Refused     string // cause, as the metrics name it
	Error       string // more about a refusal or an end
}

// end is how a connection ended.
type end int32

const (
	endClosed end = iota // both sides closed
	endReset
	endIdle
	endShutdown
	endRefused
	endShed // it had to give way, and is refused
)

var endNames = [...]string{"closed", "reset", "idle", "shutdown", "refused", "refused"}

// AppendJSON appends one line, with its line end, for r to b.
func (r *Record) AppendJSON(b []byte) []byte {
	text := func(key, s string) {
		if s != "" {
			b = logline.String(append(b, key...), s)
		}
	}
	b = append(b, `{"time":"`...)
	b = logline.Time(b, r.Start, 3)
	b = append(b, '"')
	b = logline.String(append(b, `,"listener":`...), r.Listener)
	text(`,"name":`, r.Name)
	b = logline.AddrPort(append(b, `,"client":`...), r.Client)
	if r.Peer != r.Client {
		b = logline.AddrPort(append(b, `,"peer":`...), r.Peer)
	}
	text(`,"server_name":`, r.ServerName)
	text(`,"destination":`, r.Destination)
	if r.Addr.IsValid() {
		b = logline.AddrPort(append(b, `,"address":`...), r.Addr)
		b = logline.Addr(append(b, `,"source":`...), r.Source)
	}
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(r.Attempts), 10)
	b = logline.Millis(append(b, `,"connect_ms":`...), r.Connect)
	b = logline.Millis(append(b, `,"total_ms":`...), r.Total)
	b = strconv.AppendInt(append(b, `,"received":`...), r.Received, 10)
	b = strconv.AppendInt(append(b, `,"sent":`...), r.Sent, 10)
	b = logline.String(append(b, `,"end":`...), r.End)
	text(`,"refused":`, r.Refused)
	text(`,"error":`, r.Error)
	return append(b, "}\n"...)
}
