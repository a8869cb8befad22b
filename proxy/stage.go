package proxy

// The stages of an exchange that is attended.
const (
	stageAsk        = iota // the request is to be sent; also of one that never was attended
	stageAsked             // it was sent
	stageAnswer            // the answer is to be sent, or what has come of it
	stageBody              // the rest of its body is on its way: see exchange.flow
	stageConnecting        // the handshake with the server is under way
	stageConnected         // CONNECT: the tunnel is to be made
	stageDial              // there is no connection yet
	stageFailed            // there will be none: see exchange.failed
)
