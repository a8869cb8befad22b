package proxy

import "github.com/sluiceproxy/sluice/proxy/sock"

// What a loop calls never waits, and what waits can't be called by a loop: it has another
// receiver. A conn and an exchange are what both share; goConn and goExchange are the same as
// the goroutine has them that serves the connection, from conn.run on. They alone read and
// write by waiting for the peer.

// goConn is a conn that a goroutine serves.
type goConn struct {
	*conn
	tcp sock.Blocking
}

// goExchange is an exchange that a goroutine goes on with.
type goExchange struct {
	*exchange
	c goConn
}

func (c *conn) onGoroutine() goConn { return goConn{c, c.tcp.Blocking()} }

func (x *exchange) onGoroutine() goExchange { return goExchange{x, x.c.onGoroutine()} }

// end ends the body's way too, and books the exchange.
func (x goExchange) end() {
	if x.body != nil {
		x.body.stop(x)
	}
	x.exchange.end()
}
