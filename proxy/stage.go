package proxy

// stage is how far an exchange has come on the loop:
//
//	new ─┬─> dial               a goroutine goes on: several addresses, or sources
//	     ├─> connecting ─┬──────────> connected
//	     │               ├─> request …
//	     │               └─> failed …
//	     ├─> connected          CONNECT: the tunnel is made
//	     ├─> request ──> sent ──> answer ──> body
//	     └─> failed ──> refusing
//
// Up to sent and connected a goroutine may take over, which goes on from there
// (goExchange.carryOn), and moves to no other. At the end of connected there is a tunnel; at
// the end of answer, body and refusing the exchange is over.
type stage uint8

const (
	stageNew        stage = iota // nothing is known; also of one that a goroutine has begun
	stageDial                    // there is no connection yet
	stageConnecting              // the handshake with the server is under way
	stageConnected               // CONNECT: the tunnel is to be made
	stageRequest                 // the request is to be sent
	stageSent                    // it was sent, and the answer is awaited
	stageAnswer                  // the answer is to be sent, or what has come of it
	stageBody                    // the rest of its body is on its way: see exchange.flow
	stageFailed                  // there will be no connection: see exchange.failed
	stageRefusing                // the client is told so
	numStages
)

// to moves x to the next stage. With the race detector it panics where the diagram has no
// arrow.
func (x *exchange) to(next stage) {
	if checkStages {
		checkStage(x.stage, next)
	}
	x.stage = next
}
