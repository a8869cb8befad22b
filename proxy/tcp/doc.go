// Package tcp is the TCP front door: fixed ports, each of which leads to one or
// more destinations, named or by address. It is what "sluice tcp" serves.
//
// A destination's name is followed as DNS changes, by its TTL. All its addresses
// are used; one that fails is left out until it answers again. A client gets three
// attempts, at distinct addresses, before it is refused by a reset. Connections
// are made by the gate of proxy/outbound alone, which judges every address that it
// dials, and bytes are moved by proxy/tunnel, so that half-closes and resets pass
// as they would on a direct connection.
//
// TLS is not decrypted: a port may choose among destinations by the server name in
// the ClientHello ([ServerName]), which is then sent on as it came. The PROXY
// protocol is read from load balancers that are trusted to send it, and written to
// destinations that want it.
//
// Configurations are put in force whole, or not at all ([Server.Apply]); what
// stays keeps its socket, what is known of its addresses, and its connections.
package tcp
