package tcp

import (
	"encoding/json"
	"net/netip"
	"time"
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
)

var endNames = [...]string{"closed", "reset", "idle", "shutdown", "refused"}

// recordLine is a Record as JSON.
type recordLine struct {
	Time        string  `json:"time"`
	Listener    string  `json:"listener"`
	Name        string  `json:"name,omitempty"`
	Client      string  `json:"client"`
	Peer        string  `json:"peer,omitempty"`
	ServerName  string  `json:"server_name,omitempty"`
	Destination string  `json:"destination,omitempty"`
	Address     string  `json:"address,omitempty"`
	Source      string  `json:"source,omitempty"`
	Attempts    int     `json:"attempts"`
	ConnectMS   float64 `json:"connect_ms"`
	TotalMS     float64 `json:"total_ms"`
	Received    int64   `json:"received"`
	Sent        int64   `json:"sent"`
	End         string  `json:"end"`
	Refused     string  `json:"refused,omitempty"`
	Error       string  `json:"error,omitempty"`
}

// AppendJSON appends one line, with its line end, for r to b.
func (r *Record) AppendJSON(b []byte) []byte {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	line := recordLine{
		Time:     r.Start.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Listener: r.Listener, Name: r.Name, Client: r.Client.String(), ServerName: r.ServerName,
		Destination: r.Destination, Attempts: r.Attempts, ConnectMS: ms(r.Connect), TotalMS: ms(r.Total),
		Received: r.Received, Sent: r.Sent, End: r.End, Refused: r.Refused, Error: r.Error,
	}
	if r.Peer != r.Client {
		line.Peer = r.Peer.String()
	}
	if r.Addr.IsValid() {
		line.Address, line.Source = r.Addr.String(), r.Source.String()
	}
	text, err := json.Marshal(line)
	if err != nil {
		return b // nothing in it can fail
	}
	return append(append(b, text...), '\n')
}
