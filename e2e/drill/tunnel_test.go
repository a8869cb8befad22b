package drill

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
)

// end is one end of a tunnel.
type end struct {
	net.Conn // plain, or TLS
	tcp      *net.TCPConn
	r        *bufio.Reader
	p        *plan
	out, in  stream
	outSize  int64
	inSize   int64
	quits    bool // by a reset, at quitAt
	quitAt   int64
	deserted bool // the other end will
	patient  bool // nobody else ends it
}

func (p *plan) clientEnd(c *client) *end {
	return &end{c.wire, c.tcp, c.r, p, stream{p.key, up}, stream{p.key, down}, p.upSize, p.downSize, p.upEnd == reset, p.upCut, p.downEnd == reset, c.g.patient}
}

func (p *plan) serverEnd(v *visit) *end {
	return &end{v.Conn, v.tcp, v.r, p, stream{p.key, down}, stream{p.key, up}, p.downSize, p.upSize, p.downEnd == reset, p.downCut, p.upEnd == reset, v.d.gate(p).patient}
}

// run moves what both sides have, and says what is wrong with what came.
func (e *end) run(first string) error {
	if e.p.turns > 0 && !e.quits && !e.deserted {
		return e.takeTurns(first)
	}
	sent := make(chan error, 1)
	go func() { sent <- e.send(first) }()
	got, err := e.in.receive(e.r, 0, -1)
	if err != nil && !e.quits {
		e.tcp.Close() // nobody takes what is still to be sent
	}
	sendErr := <-sent
	e.tcp.Close()
	switch {
	case isWrong(err):
		return err
	case got > e.inSize:
		return wrongf("%d bytes instead of %d", got, e.inSize)
	case e.quits:
		return nil
	case e.deserted && err == nil && sendErr == nil && e.patient:
		return wrongf("a clean end behind %d of %d bytes, of a side that has reset the connection", got, e.inSize)
	case e.deserted:
		return nil
	case err != nil:
		return fmt.Errorf("behind %d of %d bytes: %w", got, e.inSize, err)
	case sendErr != nil:
		return fmt.Errorf("while sending: %w", sendErr)
	case got != e.inSize:
		return fmt.Errorf("a clean end behind %d of %d bytes", got, e.inSize)
	}
	return nil
}

func (e *end) pieces(b int) *piecewise {
	return &piecewise{w: e.Conn, pieces: b, r: e.p.rand(uint64(e.out.way))}
}

func (e *end) send(first string) error {
	pieces := e.p.pieces
	if e.out.way == down {
		pieces = e.p.answer
	}
	w := e.pieces(pieces)
	io.WriteString(w, first)
	size := e.outSize
	if e.quits {
		size = min(size, e.quitAt)
	}
	err := e.out.send(w, 0, size)
	if e := w.flush(); err == nil {
		err = e
	}
	switch {
	case err != nil:
		return err
	case e.quits:
		abort(e.tcp)
		return nil
	}
	return e.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// takeTurns: the client asks, the server answers, some times over.
func (e *end) takeTurns(first string) error {
	defer e.tcp.Close()
	r := e.p.rand('t') // the same on both sides
	off := [2]int64{}
	asks := e.out.way == up
	if !asks {
		if _, err := io.WriteString(e.Conn, first); err != nil {
			return err
		}
		first = ""
	}
	for i := range 2 * e.p.turns {
		side, n := i%2, 1+r.Int64N(5000)
		if (side == 0) == asks {
			w := e.pieces(0)
			io.WriteString(w, first)
			first = ""
			e.out.send(w, off[side], off[side]+n)
			if err := w.flush(); err != nil {
				return err
			}
		} else if got, err := e.in.receive(e.r, off[side], n); err != nil {
			return fmt.Errorf("in turn %d, behind %d bytes: %w", i, off[side]+got, err)
		}
		off[side] += n
	}
	if err := e.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	if got, err := e.in.receive(e.r, off[0], -1); got > 0 || err != nil {
		return fmt.Errorf("behind the last turn: %d bytes, %w", got, err)
	}
	return nil
}

// hello is the first line of a tunnel, by which the server knows it.
func hello(p *plan) string { return "DRILL " + p.key.String() + "\n" }

// tunnel makes one by CONNECT, of HTTP or of SOCKS 5, or through the TCP front door.
func (w *worker) tunnel(g *gate, p *plan) {
	addr, socks := g.addr, false
	switch {
	case p.class == classTCP:
		addr = g.tcpAddr
	case p.shape%3 == 0:
		addr, socks = g.socks, true
	}
	c := w.connect(g, addr)
	if c == nil {
		return
	}
	defer c.Close()
	if p.class == classTCP {
		c.tunnelled(p, p.clientEnd(c).run(hello(p)))
		return
	}
	request := fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: x\r\nX-Drill: %s\r\nUser-Agent: drill %s\r\n\r\n", p.host, w.d.tunnels.port(), p.key, p.key)
	if c.socks = socks; socks {
		request = "\x05\x01\x00" + c.ask(p)
	}
	e := p.clientEnd(c)
	if !p.expect {
		e.r = bufio.NewReader(&behind{c, p, false})
		c.tunnelled(p, e.run(request+hello(p)))
		return
	}
	_, err := io.WriteString(c, request)
	if err == nil {
		err = c.established(p)
	}
	if err == nil {
		err = e.run(hello(p))
	}
	c.tunnelled(p, err)
}

// ask is a request of SOCKS 5 (RFC 1928).
func (c *client) ask(p *plan) string {
	return fmt.Sprintf("\x05\x01\x00\x03%c%s", rune(len(p.host)), p.host) + string(binary.BigEndian.AppendUint16(nil, uint16(c.w.d.tunnels.port())))
}

// establishedBySocks reads the answers to a greeting and a request.
func (c *client) establishedBySocks() error {
	const want = "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.r, got)
	switch {
	case string(got[:n]) == want:
		return nil
	case !c.g.patient && (n > 1 && got[1] != 0 || n > 3 && got[3] != 0):
		return fmt.Errorf("%q", got[:n])
	case err != nil && n <= 2:
		return err
	}
	return wrongf("the answer to a client of SOCKS is %q", got[:n])
}

// behind reads what stands behind the answer to CONNECT.
type behind struct {
	c     *client
	p     *plan
	ready bool
}

func (b *behind) Read(buf []byte) (int, error) {
	if !b.ready {
		if err := b.c.established(b.p); err != nil {
			return 0, err
		}
		b.ready = true
	}
	return b.c.r.Read(buf)
}

// established reads the answer to CONNECT.
func (c *client) established(p *plan) error {
	if c.socks {
		return c.establishedBySocks()
	}
	h, _, err := readHead(c.r)
	switch {
	case err != nil:
		return err
	case h.start == "HTTP/1.1 200 Connection established" && len(h.fields) == 0:
		return nil
	case !c.g.patient && strings.HasPrefix(h.fields["proxy-status"], "sluice; "):
		return fmt.Errorf("%q", h.start)
	}
	return wrongf("the answer to CONNECT is %+v", h)
}

// tunnelled judges how a tunnel ended, and counts it.
func (c *client) tunnelled(p *plan, err error) {
	d := c.w.d
	switch {
	case isWrong(err) || err != nil && c.g.patient && p.downEnd == whole && p.upEnd == whole:
		d.fault(p, "the client of a tunnel got: %v", err)
	case err == nil && p.downEnd == whole && p.upEnd == whole:
		d.count(fmt.Sprintf("%s %c whole", c.g.name, p.class))
	default:
		d.count(fmt.Sprintf("%s %c cut", c.g.name, p.class))
	}
}

// upgrade makes a tunnel by a request.
func (w *worker) upgrade(g *gate, p *plan) {
	c := w.connect(g, g.addr)
	if c == nil {
		return
	}
	defer c.Close()
	_, err := io.WriteString(c, c.request(p))
	var h head
	if err == nil {
		h, _, err = readHead(c.r)
	}
	switch {
	case err != nil:
	case h.start == "HTTP/1.1 101 "+p.key.String():
		if err = c.checkHead(p, h, 101, p.key.String()); err == nil {
			err = p.clientEnd(c).run("")
		}
	case strings.HasPrefix(h.fields["proxy-status"], "sluice; ") && (!g.patient || p.downEnd == reset):
		err = fmt.Errorf("%q", h.start)
	default:
		err = wrongf("the answer is %+v", h)
	}
	c.tunnelled(p, err)
}

// upgrade serves the tunnel that a request has asked for.
func (v *visit) upgrade(p *plan) error {
	head := fmt.Sprintf("HTTP/1.1 101 %s\r\nX-Drill: %s\r\nX-Pad: %s\r\nConnection: Upgrade\r\nUpgrade: drill\r\n\r\n", p.key, p.key, stream{p.key, down}.letters(p.padDown))
	return v.tunnelled(p, p.serverEnd(v).run(head))
}

// tunnelled judges a tunnel from the server's side.
func (v *visit) tunnelled(p *plan, err error) error {
	if err != nil && !isWrong(err) && v.d.gate(p).patient && p.upEnd == whole && p.downEnd == whole {
		return wrongf("of a tunnel: %w", err)
	}
	return err
}

// serveTunnel serves a connection that begins with hello.
func (v *visit) serveTunnel() {
	first, err := v.r.ReadString('\n')
	if err != nil {
		v.d.count("server: no hello")
		return
	}
	k, err := parseKey(strings.TrimPrefix(strings.TrimSpace(first), "DRILL "))
	if err != nil || (k.class != classConnect && k.class != classTCP) {
		v.d.fault(nil, "a tunnel begins with %q: %s", first[:min(len(first), 200)], whose([]byte(first)))
		return
	}
	p := v.d.plan(k)
	if err := v.otherTenant(k); err != nil {
		v.d.fault(p, "a tunnel: %v", err)
	}
	if err := v.tunnelled(p, p.serverEnd(v).run("")); isWrong(err) {
		v.d.fault(p, "the server of a tunnel got: %v", err)
	}
}
