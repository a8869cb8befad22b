package tcp

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Config is what a [Server] has in force. It is not changed once it was given to
// Apply.
type Config struct {
	Listeners []Listener
	// Generation must allow the destinations; nil denies everything.
	Generation *policy.Generation

	MaxConns       int           // open client connections; 0: as many as the budget has room for
	HeadTimeout    time.Duration // for a client to send its PROXY header or ClientHello
	ConnectTimeout time.Duration // for each address
	DNSTimeout     time.Duration // for a look-up
	IdleTimeout    time.Duration // of a connection without bytes; 0: never
}

// Listener is one port and where its connections go.
type Listener struct {
	Label  string // for metrics and logs: the port, or its address and port
	Name   string // for logs; "" for none
	Listen string // as net.Listen takes it

	Balance     Balance
	SendProxy   int            // version of the PROXY protocol header to send: 1, 2, or 0 for none
	AcceptProxy []netip.Prefix // clients that must begin with a PROXY protocol header
	Check       Check
	Tenant      string // whose rules and sources the destinations have; "": the default tenant's

	Routes       []Route      // by server name; none: clients' bytes are not looked at
	Destinations []acl.Target // for all others; none: they are refused
}

// Route leads connections for some server names to their destinations.
type Route struct {
	Names        []string // "name", or "*.domain": that domain and every name below it
	Destinations []acl.Target
}

// Check asks for active health checks: a connection to each address every
// Interval. Rise and Fall count how many in a row change its state. With Interval
// 0 only addresses that have failed are tried, until they answer.
type Check struct {
	Interval   time.Duration
	Rise, Fall int
}

// Balance is how an address is chosen among those of all destinations.
type Balance uint8

const (
	RoundRobin       Balance = iota // each in turn
	LeastConnections                // the one with the fewest open connections
	SourceHash                      // the same for the same client, as long as it is in use
)
