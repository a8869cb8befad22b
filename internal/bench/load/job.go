//go:build linux

// Package load is the client side of a benchmark: one thread that drives many
// connections through a proxy and checks every status and every byte count. It
// must cost less than any proxy, so it is a bare epoll loop that allocates nothing
// while it counts.
package load

import "time"

// Kind is what each connection does over and over.
type Kind string

// The kinds of work.
const (
	Get      Kind = "get"      // GETs on connections that are kept
	GetNew   Kind = "getnew"   // a GET, then a new connection
	Exchange Kind = "exchange" // one message there and back, then a new connection
	Down     Kind = "down"     // Bytes from the origin, then a new connection
	Up       Kind = "up"       // Bytes to the origin, then a new connection
	Quit     Kind = "quit"     // a GET whose answer nobody waits for once it has begun, then a new connection
	Hold     Kind = "hold"     // one exchange, then the connection stays open at rest
)

// MessageSize is the size of what an exchange sends, and of commands to the raw
// port of the origin.
const MessageSize = 16

// Job is work for the generator.
type Job struct {
	Kind     Kind
	Addr     string        // IPv4 address and port to connect to
	Heads    [][]byte      // taken in turn, to be answered with 200 before anything else: CONNECTs, or nothing
	Greeting []byte        // goes before one of Heads, and waits for Greeted; empty: nothing does
	Greeted  []byte        // all that must come of Greeting
	Answered []byte        // all that must come of one of Heads; empty: an answer of HTTP
	First    []byte        // what an Exchange sends, and whose first MessageSize bytes come back; empty: a message
	Requests []Request     // of Get and GetNew, taken in turn
	Conns    int           // connections at a time
	Warm     int           // pieces of work before it counts
	Count    int           // pieces of work that count, at least
	Duration time.Duration // more of them until it is over
	Rate     float64       // pieces a second, sent on time whatever the answers do; 0: the next after the answer
	Bytes    int64         // of one Down or Up
	Limit    time.Duration // a job that takes longer has failed
}

// Request is a GET and what must come of it.
type Request struct {
	Head   string
	Status int
	Length int64 // of the body; -1: any
	Broken bool  // the answer must break off
}

// Result is what came of a job. What a job did before it counted is only in Errors.
type Result struct {
	Done     int
	Bytes    int64 // of bodies, or of bulk
	Elapsed  time.Duration
	P50, P99 time.Duration
	Max      time.Duration
	Reopened int            // kept connections that the proxy closed after an answer, saying so
	Retried  int            // kept connections that the proxy closed before an answer
	Errors   map[string]int // what went wrong, and how often
}
