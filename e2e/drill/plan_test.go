package drill

import (
	"fmt"
	"math/rand/v2"
	"reflect"
)

// Classes of exchanges.
const (
	classFree    = 'g' // any request and answer
	classPipe    = 'p' // a GET that may stand in a pipeline
	classStray   = 'w' // a GET to the server of one worker alone, which speaks unasked after it
	classDenied  = 'd' // what the rules deny
	classNowhere = 'n' // a name that does not exist, or a port at which nobody is
	classBad     = 'b' // a head that is refused
	classStall   = 'x' // a client that reads nothing for longer than the limit
	classUpgrade = 'u'
	classConnect = 't'
	classTCP     = 'f' // by the TCP front door
	classInside  = 'i' // as classFree, out of a tunnel that the gateway opens
	classStreams = 'h' // as classInside, by HTTP/2 on both sides
	classDown    = 'k' // as classInside, by HTTP/2 with the client alone
	classRough   = 'j' // as classStreams, to a server that ends connections under way
)

// framing is how a body ends.
type framing uint8

const (
	noBody framing = iota
	length
	chunked
	untilClose
)

// How a side ends its part before it is whole.
const (
	whole  = iota
	reset  // by a reset
	finish // as if it were whole
)

// plan is all that there is to know of an exchange. It is drawn from the seed and the
// key, so that either end has it.
type plan struct {
	key
	method string
	minor  int
	secure bool // over TLS to the server
	host   string

	up        framing
	upSize    int64
	upEnd     int // of the client, at upCut
	upCut     int64
	expect    bool // Expect: 100-continue
	halfClose bool // behind the request
	padding   int  // in the request's head
	pieces    int  // how a client cuts what it sends: see pieces

	status   int
	down     framing
	downSize int64
	downEnd  int // of the server, at downCut
	downCut  int64
	leaveAt  int64 // the client leaves when it has so much of the answer; -1: it does not
	leaveBy  int
	interims int
	early    int  // the server answers before it has read the request's body: see earlyReads …
	unasked  bool // a second answer stands right behind the first
	closes   bool // the server says that it closes
	hangsUp  bool // the server closes without having said so
	answer   int  // how the server cuts what it sends
	padDown  int

	turns int // of a tunnel in which the sides take turns; 0: both send all they have

	shape uint64 // seed of sizes of chunks and pieces
}

// What a server does that answers early.
const (
	earlyReads = iota + 1 // and reads on
	earlyStops            // reads no more, and stays
	earlyGoes             // reads no more, and closes
)

// rand is for whatever is to be drawn alike each time; use tells uses apart.
func (p *plan) rand(use uint64) *rand.Rand { return rand.New(rand.NewPCG(p.shape, use)) }

func (p *plan) String() string {
	v := reflect.ValueOf(*p)
	s := p.key.String()
	for i := 1; i < v.NumField(); i++ {
		if f := v.Field(i); !f.IsZero() {
			s += fmt.Sprintf(" %s=%v", v.Type().Field(i).Name, f)
		}
	}
	return s
}

// sizeOf draws a size: mostly small, sometimes so large that it goes through pipes.
func sizeOf(r *rand.Rand) int64 {
	switch n := r.IntN(100); {
	case n < 10:
		return r.Int64N(3)
	case n < 60:
		return r.Int64N(4 << 10)
	case n < 82:
		return r.Int64N(100 << 10)
	case n < 97:
		return r.Int64N(1 << 20)
	}
	return r.Int64N(5 << 20)
}

func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// Names of the servers: known to the resolver, to be asked for each time, with an address
// at which nobody is, and that the rules allow only now and then.
var hosts = []string{"127.0.0.1", "known.test", "known.test", "brief.test", "both.test"}

// insideHost is the host whose tunnels are opened: the servers' certificate is for it, too.
const insideHost = "example.com"

func planOf(seed uint64, k key) *plan {
	r := rand.New(rand.NewPCG(seed, uint64(k.class)<<40|uint64(k.gateway)<<32|uint64(k.id)))
	p := &plan{key: k, method: "GET", minor: 1, status: 200, leaveAt: -1, shape: r.Uint64(), host: pick(r, hosts...)}
	p.pieces, p.answer = drawPieces(r), drawPieces(r)
	if oneIn(r, 8) {
		p.padding = r.IntN(9000)
	}
	if oneIn(r, 8) {
		p.padDown = r.IntN(9000)
	}
	switch k.class {
	case classConnect, classTCP, classUpgrade:
		p.drawTunnel(r)
	case classStall:
		p.drawStall(r)
	case classDenied, classNowhere:
		p.drawRefused(r)
	case classBad:
	default:
		p.drawAnswer(r)
		if k.class == classFree || k.inside() {
			p.drawRequest(r)
			p.drawFaults(r)
		}
		if k.inside() {
			p.secure, p.host = true, insideHost
		}
		if k.streams() {
			p.asStream()
		}
	}
	return p
}

// drawPieces: one write if it may be, some, or many.
func drawPieces(r *rand.Rand) int { return pick(r, 0, 0, 0, 1, 1, 2) }

func (p *plan) drawAnswer(r *rand.Rand) {
	p.secure = oneIn(r, 4)
	p.down, p.downSize = pick(r, length, length, chunked), sizeOf(r)
	if p.class == classPipe || p.class == classStray {
		p.downSize = min(p.downSize, 256<<10)
	}
	switch r.IntN(16) {
	case 0:
		p.status, p.down = 204, noBody
	case 1:
		p.status, p.down = 304, pick(r, noBody, length)
	case 2, 3:
		p.method = "HEAD"
	case 4:
		p.status = pick(r, 404, 500, 206)
	}
	if p.class != classStray && oneIn(r, 8) {
		p.unasked = true
	}
	if oneIn(r, 8) {
		p.interims = 1 + r.IntN(3)
	}
}

func (p *plan) drawRequest(r *rand.Rand) {
	if oneIn(r, 8) {
		p.minor = 0
	}
	if oneIn(r, 20) {
		p.host = "flip.test"
	}
	p.closes, p.hangsUp = oneIn(r, 8), oneIn(r, 8)
	if p.method == "GET" && p.status == 200 && oneIn(r, 6) {
		p.down, p.closes, p.unasked = untilClose, true, false
	}
	if oneIn(r, 3) && p.method == "GET" {
		p.method, p.upSize = pick(r, "POST", "PUT", "PATCH"), sizeOf(r)
		p.up = length
		if p.minor == 1 && oneIn(r, 3) {
			p.up = chunked
		}
		p.expect = p.minor == 1 && oneIn(r, 4)
		if p.upSize > 0 && oneIn(r, 5) {
			p.early = 1 + r.IntN(3)
			p.status, p.closes, p.unasked, p.interims = 413, true, false, 0
			p.upSize += 200 << 10
			if p.down == untilClose || p.down == noBody {
				p.down = length // else its end would wait for that of the request
			}
			if p.early == earlyGoes { // by a reset, since it leaves bytes unread
				p.downSize = min(p.downSize, 8<<10)
			}
		}
	}
	p.halfClose = oneIn(r, 12) && p.early == 0
}

func (p *plan) drawFaults(r *rand.Rand) {
	body := p.status != 204 && p.status != 304 && p.method != "HEAD" && p.downSize > 0
	if p.early != 0 {
		if p.down != noBody && p.downSize > 0 && oneIn(r, 3) {
			p.down, p.downEnd, p.downCut = pick(r, untilClose, p.down), reset, r.Int64N(p.downSize)
		}
		return
	}
	switch n := r.IntN(100); {
	case n < 8 && body && p.down != noBody:
		p.downEnd, p.unasked = pick(r, reset, reset, finish), false
		if p.down == untilClose {
			p.downEnd = reset // else nobody could tell that it is not whole
		}
		p.downCut = r.Int64N(p.downSize)
	case n < 14 && p.upSize > 0:
		p.upEnd, p.halfClose = pick(r, reset, finish), false
		p.upCut = r.Int64N(p.upSize)
	case n < 22 && body:
		p.leaveAt, p.leaveBy = r.Int64N(p.downSize), pick(r, reset, finish)
	}
}

// drawStall: a long answer to a client that does not take it.
func (p *plan) drawStall(r *rand.Rand) {
	p.down, p.downSize = pick(r, chunked, chunked, length, untilClose), 12<<20+r.Int64N(4<<20)
	p.closes = p.down == untilClose
	p.minor = pick(r, 1, 1, 1, 0)
}

func (p *plan) drawRefused(r *rand.Rand) {
	p.host = "denied.test"
	if p.class == classNowhere {
		p.host = pick(r, "nowhere.test", "127.0.0.1")
	}
	p.method = pick(r, "GET", "GET", "HEAD", "CONNECT", "POST")
	if p.method == "POST" {
		p.up, p.upSize = length, r.Int64N(20<<10)
	}
}

func (p *plan) drawTunnel(r *rand.Rand) {
	p.upSize, p.downSize = sizeOf(r), sizeOf(r)
	p.secure = p.class == classUpgrade && oneIn(r, 3)
	switch r.IntN(8) {
	case 0:
		p.upEnd, p.upCut = reset, r.Int64N(p.upSize+1)
	case 1:
		p.downEnd, p.downCut = reset, r.Int64N(p.downSize+1)
	case 2, 3:
		p.turns = 1 + r.IntN(20)
	}
	p.expect = oneIn(r, 2) // to be told that the tunnel is there before anything is sent
}

// cut reports whether the answer will not be whole.
func (p *plan) cut() bool { return p.downEnd != whole }

// bodyless reports whether nothing stands behind the answer's head.
func (p *plan) bodyless() bool {
	return p.method == "HEAD" || p.status == 204 || p.status == 304 || p.down == noBody
}

// trailer is whether chunks are followed by one.
func (p *plan) trailer() bool { return p.shape%3 == 0 }

// sizes cuts n bytes into chunks or pieces.
func sizes(r *rand.Rand, n int64, most int64) (all []int64) {
	for n > 0 {
		k := 1 + r.Int64N(min(n, most))
		all = append(all, k)
		n -= k
	}
	return all
}

// chunksOf are the sizes of the chunks of a body; some are so long that they are moved by
// pipes.
func (p *plan) chunksOf(n int64, use uint64) []int64 {
	r := p.rand(use)
	most := pick[int64](r, 100, 5<<10, 200<<10, 3<<20, 16<<20)
	if p.class == classStall || n/most > 500 {
		return sizes(r, n, max(most, 3<<20))
	}
	return sizes(r, n, most)
}
