package proxy

import (
	"errors"
	"os"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/socks5"
)

// A client of SOCKS 5 asks for the same tunnel as one that sends a CONNECT, in other words: it
// comes by the same door, is admitted by the same gate, and has the same exchange. Only what it
// says before that is its own, and how it is answered. Each message that has come whole is
// answered on the loop; anything else, and a login that somebody has to be asked about, is for
// a goroutine, which begins at the message that was left.

// socksLife is what is known of a client of SOCKS.
type socksLife struct {
	speaks bool // else the client is one of HTTP
	stage  socksStage
	owes   uint8                      // how much of owed it was not told yet
	owed   [4 + socks5.ReplySize]byte // answers to its greeting and login, and the reply behind them
	login  outbound.Login
}

// socksStage is the message that a client has to send next, or that was refused.
type socksStage uint8

const (
	socksGreeting socksStage = iota
	socksLogin
	socksRequest
)

// owe puts aside what the client is to be told, since its next message is there already: one segment
// for all costs the kernel a tenth less for each tunnel, and who has nothing left to say waits for no
// more than the last of it.
func (s *socksLife) owe(say []byte) { s.owes += uint8(copy(s.owed[s.owes:], say)) }

// withOwed returns what the client was not told yet, with room for a reply behind it.
func (s *socksLife) withOwed() []byte { return s.owed[:s.owes] }

// paySocks tells the client what it is owed, and reports whether that could be.
func (c *conn) paySocks() bool {
	if c.socks.owes == 0 {
		return true
	}
	fd, _ := c.tcp.Bare()
	sent, _ := sock.TryWrite(fd, c.socks.withOwed())
	if sent == int(c.socks.owes) {
		c.socks.owes = 0
		return true
	}
	c.releaseBuffer()
	c.finish() // a socket that has no room for a few bytes at its beginning is broken
	return false
}

// receiveSocks answers what has come on the loop, and begins an exchange if the request has.
func (c *conn) receiveSocks(l *poll.Loop) {
	for c.socks.stage != socksRequest {
		n, next, say := c.hearSocks()
		if n == 0 {
			if c.paySocks() {
				c.toGoroutine(nil)
			}
			return
		}
		c.socks.owe(say)
		c.r += n
		if c.socks.stage = next; c.r < c.w {
			continue
		}
		if !c.paySocks() {
			return
		}
		c.releaseBuffer()
		if c.more {
			c.receiveRequest(l)
		} else {
			c.awaitRequest(l)
		}
		return
	}
	if at := c.r; !c.beginExchange(l) {
		c.r = at
		if c.paySocks() {
			c.toGoroutine(nil)
		}
	}
}

// hearSocks reads a greeting or a login, if that can be answered at once; else n is 0.
func (c *conn) hearSocks() (n int, next socksStage, say []byte) {
	if c.socks.stage == socksGreeting {
		methods, n, err := socks5.ParseGreeting(c.buffered())
		if err != nil {
			return 0, 0, nil
		}
		method, next := c.srv.socksMethod(methods)
		if method == socks5.NoAcceptable {
			return 0, 0, nil
		}
		return n, next, socksMethods[method]
	}
	user, password, n, err := socks5.ParseLogin(c.buffered())
	if err != nil || !c.logsInNow(user, password) {
		return 0, 0, nil
	}
	return n, socksRequest, socksLoggedIn
}

// What is said to those who go on. It is not to be written to.
var (
	socksMethods  = [...][]byte{socks5.NoLogin: socks5.AppendMethod(nil, socks5.NoLogin), socks5.Login: socks5.AppendMethod(nil, socks5.Login)}
	socksLoggedIn = socks5.AppendLogin(nil, true)
)

// socksMethod chooses among the methods that a client offers, and says what it has to send then.
func (s *Server) socksMethod(offered []byte) (method byte, next socksStage) {
	mode := s.live.Load().Asks().Mode
	none, login := socks5.Offers(offered, socks5.NoLogin), socks5.Offers(offered, socks5.Login)
	switch {
	case login && (mode != policy.Off || !none): // what nobody asks for is dropped, unread
		return socks5.Login, socksLogin
	case none && mode != policy.Required:
		return socks5.NoLogin, socksRequest
	}
	return socks5.NoAcceptable, socksGreeting
}

// logsInNow reports whether what the client shows is known to be good, or not asked for. c.mu is
// held.
func (c *conn) logsInNow(user, password []byte) bool {
	if c.srv.live.Load().Asks().Mode == policy.Off {
		return true
	}
	c.shows(user, password)
	x := exchanges.Get().(*exchange)
	x.begin(c)
	x.asks()
	good := c.srv.Gate.AuthenticateNow(x.gen, &x.wanted, &x.ticket)
	x.did.silent = true // nothing was asked for yet; who is refused is refused elsewhere
	x.end()
	return good
}

// shows keeps what the client shows for its request.
func (c *conn) shows(user, password []byte) {
	c.socks.login.Credential, c.socks.login.Outcome = auth.ParseLogin(user, password)
}

// beginSocks begins to serve the request of a client of SOCKS.
func (x *exchange) beginSocks(l *poll.Loop) bool {
	if x.parseSocks() != nil || x.c.r != x.c.w {
		return false
	}
	return x.beginTunnel(l)
}

// parseSocks reads the request.
func (x *exchange) parseSocks() error {
	r, n, err := socks5.ParseRequest(x.c.buffered())
	if n == 0 {
		return err
	}
	x.c.r += n
	// The log has it in the words of HTTP, by which its readers find out what was asked for.
	x.out = r.AppendAuthority(x.out[:0])
	x.req.Method, x.req.Target, x.target.Authority = r.Method(), x.out, x.out
	x.keepHeads() // the answer is made where they are
	return err
}

// serveSocks answers a client of SOCKS, whose message begins to come.
func (x goExchange) serveSocks() (keep bool) {
	if err := x.readSocks(); err != nil {
		return x.endBadSocks(err)
	}
	if err := x.admit(0); err != nil {
		return x.refuse(err)
	}
	return x.dialTunnel()
}

// readSocks reads messages up to the request, and answers those before. All together they have
// the time of a head.
func (x goExchange) readSocks() error {
	c := x.c
	if err := c.setLimit(c.srv.HeadTimeout); err != nil {
		return err
	}
	for {
		asked := c.socks.stage == socksRequest
		err := x.hearSocks()
		if asked && err == nil {
			return nil
		}
		if err == nil && len(c.buffered()) > 0 {
			continue
		}
		if err != nil && err != socks5.ErrMore {
			return err
		}
		c.waiting.Store(waitHead)
		err = c.fill()
		c.waiting.Store(notWaiting)
		if err != nil {
			return err
		}
	}
}

// hearSocks reads the next message, and answers it unless it is the request.
func (x goExchange) hearSocks() error {
	c := x.c
	switch c.socks.stage {
	case socksGreeting:
		methods, n, err := socks5.ParseGreeting(c.buffered())
		if err != nil {
			return err
		}
		method, next := c.srv.socksMethod(methods)
		if method == socks5.NoAcceptable {
			return errNoMethod
		}
		return x.goOn(n, next, socksMethods[method])
	case socksLogin:
		user, password, n, err := socks5.ParseLogin(c.buffered())
		if err == nil {
			err = x.logIn(user, password)
		}
		if err != nil {
			return err
		}
		return x.goOn(n, socksRequest, socksLoggedIn)
	}
	return x.parseSocks()
}

// errNoMethod is told to a client that offers nothing by which it could be let in.
var errNoMethod = &outbound.Error{Kind: outbound.Unauthenticated,
	Err: errors.New("the client offers no SOCKS method that is taken: it has to show a user and a password (RFC 1929)")}

// goOn is said to a client whose message of n bytes was taken.
func (x goExchange) goOn(n int, next socksStage, say []byte) error {
	x.c.r += n
	x.c.socks.stage = next
	_, err := x.c.tcp.Write(say)
	return err
}

// logIn finds out who the client is, and waits for whoever knows.
func (x goExchange) logIn(user, password []byte) error {
	c := x.c
	if c.srv.live.Load().Asks().Mode == policy.Off {
		return nil
	}
	c.shows(user, password)
	x.asks()
	ctx, done := c.whileThere()
	defer done()
	return c.srv.Gate.Blocking().Authenticate(ctx, x.gen, &x.wanted, &x.ticket)
}

// endBadSocks ends an exchange whose messages cannot be used.
func (x goExchange) endBadSocks(err error) (keep bool) {
	var bad *socks5.Error
	var out *outbound.Error
	switch {
	case x.c.gone.Load(): // or it had to give way
		x.did.silent = true
		return false
	case errors.As(err, &bad):
		x.failed, x.did.details = err, bad.Msg
		return x.answer(answer.Failed(answer.ClassRequest, bad.Msg))
	case errors.As(err, &out):
		return x.refuse(err)
	case errors.Is(err, os.ErrDeadlineExceeded), err == errExpired:
		return x.answer(answer.SlowHead(x.c.srv.HeadTimeout))
	}
	x.did.silent = true // the client is gone; there is nothing to tell
	return false
}
