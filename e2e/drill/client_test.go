package drill

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// client is one client connection to a gateway.
type client struct {
	wire
	tcp    *net.TCPConn // beneath
	w      *worker
	g      *gate
	r      *bufio.Reader
	used   bool // it has had an answer
	socks  bool // it speaks SOCKS
	inside bool // it is in a tunnel that the gateway opens
}

// wire is a connection in plain, or by TLS.
type wire interface {
	net.Conn
	CloseWrite() error
}

// connect opens a connection; to the HTTP front door it is one by TLS now and then.
func (w *worker) connect(g *gate, addr string) *client {
	byTLS := addr == g.addr && oneIn(w.r, 3)
	if byTLS {
		addr = g.tlsAddr
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(w.tenant.client)}}
	conn, err := from.Dial("tcp", addr)
	if err != nil {
		w.d.fault(nil, "connect to %s: %v", g.name, err)
		return nil
	}
	conn.SetDeadline(time.Now().Add(patience))
	c := &client{wire: conn.(*net.TCPConn), tcp: conn.(*net.TCPConn), w: w, g: g}
	if byTLS {
		secure := tls.Client(conn, w.d.trust)
		switch err := secure.Handshake(); {
		case err != nil && g.patient:
			w.d.fault(nil, "handshake with %s: %v", g.name, err)
			return nil
		case err != nil: // no place, or too late
			w.d.count(g.name + " no handshake")
			conn.Close()
			return nil
		}
		c.wire = secure
	}
	c.r = bufio.NewReaderSize(c, 16<<10)
	return c
}

// received is what a client has had as the answer to a request.
type received struct {
	status int
	own    bool // of the proxy itself
	any    bool // something has come
	whole  bool
	closes bool // the proxy says so
	left   bool // the client went away by itself
	got    int64
	err    error
}

// exchange makes one and reports whether the connection can carry another.
func (c *client) exchange(p *plan) (keep bool) {
	c.SetDeadline(time.Now().Add(patience))
	goOn, sent := make(chan bool, 1), make(chan error, 1)
	go func() { sent <- c.send(p, goOn) }()
	a := c.receive(p, goOn)
	if !a.whole || a.closes || a.left {
		c.SetWriteDeadline(time.Unix(1, 0)) // it wants no more
	}
	sendErr := <-sent
	if sendErr == errLeft {
		a.left = true
	}
	ok := c.judge(p, &a, sendErr)
	if ok && a.whole && (a.closes || p.halfClose) {
		ok = c.ends(p, sendErr == nil && p.early == 0 && !a.own)
	}
	c.w.d.over(p.key).done()
	c.used = true
	return ok && a.whole && !a.closes && !p.halfClose
}

// errLeft says that the client has gone away as its plan says.
var errLeft = errors.New("the client left")

// request is the head of p's request.
func (c *client) request(p *plan) string {
	var b strings.Builder
	if c.inside {
		c.insideHead(&b, p)
	} else {
		fmt.Fprintf(&b, "%s %s HTTP/1.%d\r\nHost: elsewhere.test\r\n", p.method, c.w.d.url(c.w, p), p.minor)
	}
	fmt.Fprintf(&b, "X-Drill: %s\r\nUser-Agent: drill %s\r\nReferer: http://r/%s\r\nAccept: text/plain\r\nX-Pad: %s\r\n",
		p.key, p.key, p.key, stream{p.key, up}.letters(p.padding))
	b.WriteString("X-Secret: " + p.key.String() + "\r\n")
	switch {
	case p.class == classUpgrade:
		b.WriteString("Connection: X-Secret, Upgrade\r\nUpgrade: drill\r\n")
	case p.minor == 0:
		b.WriteString("Connection: X-Secret, keep-alive\r\n")
	default:
		b.WriteString("Connection: X-Secret\r\n")
	}
	switch p.up {
	case length:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", p.upSize)
	case chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	if p.expect && p.class != classUpgrade {
		b.WriteString("Expect: 100-continue\r\n")
	}
	if p.class == classBad {
		b.WriteString(badFields[p.shape%uint64(len(badFields))])
	}
	b.WriteString("\r\n")
	return b.String()
}

// badFields are what makes a head one that is refused.
var badFields = []string{
	"Content-Length: 1\r\nContent-Length: 2\r\n",
	"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
	"Transfer-Encoding: x, chunked\r\n",
	"Bare: LF\n",
	"White : space\r\n",
	" folded\r\n",
	"Too-Long: " + strings.Repeat("x", 70<<10) + "\r\n",
}

// send sends the request; goOn tells whether its body is wanted.
func (c *client) send(p *plan, goOn <-chan bool) error {
	w := &piecewise{w: c, pieces: p.pieces, r: p.rand(up)}
	io.WriteString(w, c.request(p))
	if p.expect {
		if err := w.flush(); err != nil || !<-goOn {
			return err
		}
	}
	cut := p.upSize
	if p.upEnd != whole {
		cut = p.upCut
	}
	err := stream{p.key, up}.sendBody(w, p, p.up, p.upSize, cut)
	if e := w.flush(); err == nil {
		err = e
	}
	switch {
	case err != nil:
		return err
	case p.upEnd == reset:
		abort(c.tcp)
		return errLeft
	case p.upEnd == finish:
		c.CloseWrite()
		return errLeft
	case p.halfClose:
		return c.CloseWrite()
	}
	return nil
}

// receive reads the answer.
func (c *client) receive(p *plan, goOn chan<- bool) (a received) {
	defer close(goOn)
	if p.class == classStall {
		givenUp(c.tcp, c.g.idle*10)
	}
	var h head
	for {
		var none bool
		if h, none, a.err = readHead(c.r); a.err != nil {
			a.any = !none
			return a
		}
		a.any = true
		code, phrase, _ := strings.Cut(strings.TrimPrefix(h.start, "HTTP/1.1 "), " ")
		if a.status, a.err = strconv.Atoi(code); a.err != nil {
			a.err = wrongf("as the start of an answer came %q: %s", h.start, whose([]byte(h.start)))
			return a
		}
		a.own = strings.HasPrefix(h.fields["proxy-status"], "sluice; ")
		if !a.own {
			if a.err = c.checkHead(p, h, a.status, phrase); a.err != nil {
				return a
			}
		}
		if a.status >= 200 || a.status == 101 {
			break
		}
		a.any = false // of the final answer
		if p.minor == 0 {
			a.err = wrongf("an interim answer to an HTTP/1.0 client")
			return a
		}
		if a.status == 100 {
			goOn <- true
		}
	}
	a.closes = strings.EqualFold(h.fields["connection"], "close")
	if a.own {
		a.err = c.receiveOwn(p, h, &a)
	} else {
		a.got, a.err = c.receiveBody(p, h, &a)
	}
	a.whole = a.err == nil && !a.left
	return a
}

// checkHead holds the head of a server's answer against the plan.
func (c *client) checkHead(p *plan, h head, status int, phrase string) error {
	interim := status == 100 && p.expect || status == 103 && p.interims > 0
	switch {
	case phrase != p.key.String(), h.fields["x-drill"] != p.key.String() && status != 100:
		return wrongf("the answer of another exchange: %+v", h)
	case interim:
		return nil
	case status != p.status && !(status == 101 && p.class == classUpgrade):
		return wrongf("status %d", status)
	case h.fields["x-pad"] != stream{p.key, down}.letters(p.padDown):
		return wrongf("padding of another answer: %+v", h)
	case h.fields["content-type"] != "application/"+p.key.String() && p.class != classUpgrade:
		return wrongf("fields of another answer: %+v", h)
	case h.fields["x-secret"] != "":
		return wrongf("a field that Connection names: %+v", h)
	case p.early == 0 && p.class != classUpgrade && h.fields["x-got"] != strconv.FormatInt(p.upSize, 10):
		return wrongf("the server had %s bytes of the body", h.fields["x-got"])
	}
	return nil
}

func (c *client) receiveBody(p *plan, h head, a *received) (int64, error) {
	s := stream{p.key, down}
	if p.bodyless() || a.status == 101 {
		return 0, nil
	}
	f := p.down
	if f == chunked && p.minor == 0 {
		f = untilClose
		a.closes = true
	}
	if v, ok := h.fields["content-length"]; ok != (f == length) || ok && v != strconv.FormatInt(p.downSize, 10) {
		return 0, wrongf("Content-Length %q of an answer of %d bytes, framing %d", v, p.downSize, f)
	}
	if v := h.fields["transfer-encoding"]; (v == "chunked") != (f == chunked) {
		return 0, wrongf("Transfer-Encoding %q", v)
	}
	if p.leaveAt >= 0 && f != chunked {
		got, err := s.receive(c.r, 0, p.leaveAt)
		if err == nil {
			a.left = true
			if p.leaveBy == reset {
				abort(c.tcp)
			} else {
				c.Close()
			}
		}
		return got, err
	}
	got, err := s.receiveBody(c.r, p, f, p.downSize)
	if f == untilClose && err == nil && got != p.downSize {
		return got, errClean
	}
	if f == chunked && err == nil && got != p.downSize {
		return got, wrongf("chunks end behind %d of %d bytes", got, p.downSize)
	}
	return got, err
}

// errClean says that an answer which ends with the connection ended as if it were whole. A
// client that is sending at the time may be told of a reset there, and only there.
var errClean = errors.New("a clean end of what is not whole")

// receiveOwn reads a page of the proxy, which must speak of this request.
func (c *client) receiveOwn(p *plan, h head, a *received) error {
	n, err := strconv.Atoi(h.fields["content-length"])
	if err != nil {
		return wrongf("a page of the proxy without a length: %+v", h)
	}
	late := a.status == 408 || a.status == 503 // the proxy does not know the method
	if p.method == "HEAD" && !late {
		n = 0
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil && !(late && a.closes && err == io.EOF) {
		return err
	}
	page := string(b)
	if strings.Contains(page, "Asked for:") && p.method != "CONNECT" && !strings.Contains(page, "/"+p.key.String()+"\n") {
		return wrongf("a page about another request: %s", page)
	}
	if strings.IndexByte(page, mark) >= 0 {
		return wrongf("in a page of the proxy stand %s", whose(b))
	}
	return nil
}

// judge decides whether what a client has had is right, and counts it.
func (c *client) judge(p *plan, a *received, sendErr error) bool {
	d := c.w.d
	switch {
	case isWrong(a.err), a.err == errClean && !isReset(sendErr):
		return d.fault(p, "the client got, behind %d bytes of body: %v", a.got, a.err)
	case a.left:
		d.count(c.g.name + " " + string(p.class) + " left")
		return false
	case a.whole && a.own:
		if !slices.Contains(c.expected(p), a.status) {
			return d.fault(p, "the proxy itself answered %d", a.status)
		}
		d.count(fmt.Sprintf("%s %c %d", c.g.name, p.class, a.status))
		return true
	case a.whole && p.cut():
		return d.fault(p, "a whole answer, %d bytes, of a server that sent %d", a.got, p.downCut)
	case a.whole && (p.class == classDenied || p.class == classNowhere || p.class == classBad):
		return d.fault(p, "a server's answer to what was to be refused")
	case a.whole:
		d.count(c.g.name + " " + string(p.class) + " whole")
		return true
	case !a.any && d.sure(p) && p.class != classBad:
		return d.fault(p, "no answer at all: %v; sent: %v", a.err, sendErr)
	case d.sure(p) && !p.cut():
		return d.fault(p, "the answer ended behind %d bytes: %v; sent: %v", a.got, a.err, sendErr)
	}
	d.count(c.g.name + " " + string(p.class) + " cut")
	return false
}

// expected are the answers that the proxy itself may give.
func (c *client) expected(p *plan) (all []int) {
	switch p.class {
	case classDenied:
		all = []int{403}
	case classNowhere:
		all = []int{502}
	case classBad:
		all = []int{400, 431}
	}
	if p.host == "flip.test" {
		all = append(all, 403)
	}
	if p.cut() {
		all = append(all, 502)
	}
	if !c.w.d.sure(p) {
		all = append(all, 408, 502, 503, 504)
	}
	return all
}

// ends checks that nothing comes behind an answer that was the last.
func (c *client) ends(p *plan, clean bool) bool {
	b, err := io.ReadAll(io.LimitReader(c.r, 4<<10))
	switch {
	case len(b) > 0:
		return c.w.d.fault(p, "behind the last answer came %d bytes: %s", len(b), whose(b))
	case err != nil && (clean && c.g.patient || !isReset(err)):
		return c.w.d.fault(p, "behind the last answer: %v", err)
	}
	return true
}
