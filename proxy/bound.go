package proxy

import (
	"slices"

	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// NTLM and Negotiate authenticate a connection to a server, and by that all requests that
// come over it (RFC 4559 section 6). So such a connection belongs to the client connection
// whose request has begun it: it is kept here between requests, not in the pool.

// maxBound is how many idle ones a client connection keeps: those to as many servers.
const maxBound = 8

// bind keeps up, which is authenticated, for the next request of this client to its server.
// It counts against the budget as one that lies in the pool does.
func (c *conn) bind(up *outbound.Conn) {
	up.Deregister() // what its server says meanwhile is found before the next use
	if !c.srv.Budget.Take(1) {
		up.Close()
		return
	}
	if len(c.bound) == maxBound {
		c.unbind(0).Close()
	}
	c.bound = append(c.bound, up)
}

// unbind takes out the i-th.
func (c *conn) unbind(i int) *outbound.Conn {
	up := c.bound[i]
	c.bound = slices.Delete(c.bound, i, i+1)
	c.srv.Budget.Give(1)
	return up
}

// takeBound returns the one that leads where the request may go, or nil.
func (x *exchange) takeBound(server string) *outbound.Conn {
	for i, up := range x.c.bound {
		if x.ticket.Route.Leads(up, server) {
			return x.c.unbind(i)
		}
	}
	return nil
}

// dropBound closes them: the client has gone, or asks no more.
func (c *conn) dropBound() {
	for len(c.bound) > 0 {
		c.unbind(0).Close()
	}
}

// authenticates reports whether the connection to the server is authenticated, or about to
// be.
func (x *exchange) authenticates() bool {
	return x.up.Bound || (x.req.ConnAuth || x.resp.ConnAuth) && !x.up.Stream()
}
