package drill

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long anybody here waits for anything.
const patience = 60 * time.Second

// origin is a server that answers as the plans say. Those that are one worker's alone can
// speak unasked.
type origin struct {
	d      *drill
	l      net.Listener
	secure *tls.Config // nil: plain
	tunnel bool        // it is an end of tunnels

	streams, rough bool // it speaks HTTP/2; see newStreams

	mu   sync.Mutex
	open map[*visit]struct{}
	wg   sync.WaitGroup
}

// visit is one connection to an origin.
type visit struct {
	*origin
	net.Conn              // plain, or TLS
	tcp      *net.TCPConn // beneath
	r        *bufio.Reader
	whose    sync.Mutex
	tenant   *tenant // whose it is

	first  atomic.Pointer[any] // the client of its first exchange
	shared atomic.Bool         // there was one of another
}

func (d *drill) newOrigin(secure *tls.Config, tunnel bool) *origin {
	o := d.listen(secure)
	o.tunnel = tunnel
	o.wg.Go(o.accept)
	return o
}

func (d *drill) listen(secure *tls.Config) *origin {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	o := &origin{d: d, l: l, secure: secure, open: make(map[*visit]struct{})}
	d.t.Cleanup(o.close)
	return o
}

func (o *origin) port() int { return o.l.Addr().(*net.TCPAddr).Port }

func (o *origin) accept() {
	for {
		c, err := o.l.Accept()
		if err != nil {
			return
		}
		v := &visit{origin: o, Conn: c, tcp: c.(*net.TCPConn)}
		if o.secure != nil {
			v.Conn = tls.Server(c, o.secure)
		}
		v.r = bufio.NewReaderSize(v.Conn, 32<<10)
		o.mu.Lock()
		o.open[v] = struct{}{}
		o.mu.Unlock()
		o.wg.Go(func() {
			defer v.Close()
			v.SetDeadline(time.Now().Add(patience))
			switch {
			case o.tunnel:
				v.serveTunnel()
			case o.streams:
				v.serveStreams()
			default:
				v.serve()
			}
			o.mu.Lock()
			delete(o.open, v)
			o.mu.Unlock()
		})
	}
}

func (o *origin) close() {
	o.l.Close()
	o.mu.Lock()
	for v := range o.open {
		v.tcp.Close()
	}
	o.mu.Unlock()
	o.wg.Wait()
}

// speakUp sends an answer that nobody has asked for over every open connection, and
// returns when the other ends have it.
func (o *origin) speakUp(k key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v := range o.open {
		if _, err := v.Write(unasked(k)); err == nil && !delivered(v.tcp) {
			o.d.t.Errorf("what the server says unasked does not arrive")
		}
	}
}

// unasked is a whole answer that no client must see.
func unasked(k key) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 200 stray\r\nX-Drill: stray of %s\r\nContent-Length: 64\r\n\r\n", k)
	body := make([]byte, 64)
	stream{k, stray}.fill(body, 0)
	return append(b, body...)
}

func (v *visit) serve() {
	for {
		v.SetDeadline(time.Now().Add(patience))
		h, none, err := readHead(v.r)
		switch {
		case isWrong(err):
			v.d.fault(nil, "a server got as a request: %v", err)
			return
		case err != nil && !none:
			v.d.count("server: half a head")
			return
		case err != nil:
			return
		}
		v.SetDeadline(time.Now().Add(patience)) // it may have lain in a pool for as long
		p, err := v.planFor(h)
		if err != nil {
			v.d.fault(p, "a server got as a request: %v; %+v", err, h)
			return
		}
		keep, err := v.exchange(p, h)
		if isWrong(err) {
			v.d.fault(p, "the server got: %v", err)
		}
		if !keep || err != nil {
			return
		}
	}
}

// otherTenant is what is wrong with who has come over the connection: it is one tenant's to
// its end, and comes from that one's address.
func (v *visit) otherTenant(k key) error {
	owner, _ := v.d.owners.Load(k)
	n, ok := owner.(*tenant)
	if !ok {
		return fmt.Errorf("nobody has asked for %s", k)
	}
	v.whose.Lock()
	defer v.whose.Unlock()
	if v.tenant == nil {
		v.tenant = n
	}
	switch from := v.tcp.RemoteAddr().(*net.TCPAddr).IP.String(); {
	case v.tenant != n:
		return fmt.Errorf("a request of %s over a connection of %s", n.client, v.tenant.client)
	case from != n.source:
		return fmt.Errorf("a request of %s came from %s", n.client, from)
	}
	return nil
}

// planFor finds the plan that a request's head is of, and holds the head against it.
func (v *visit) planFor(h head) (*plan, error) {
	var method, path string
	if _, err := fmt.Sscanf(h.start, "%s /%s HTTP/1.1", &method, &path); err != nil {
		return nil, fmt.Errorf("%q: %v", h.start, err)
	}
	k, err := parseKey(path)
	if err != nil {
		return nil, fmt.Errorf("%q: %v", h.start, err)
	}
	p := v.d.plan(k)
	switch {
	case v.otherTenant(k) != nil:
		return p, v.otherTenant(k)
	case method != p.method:
		return p, fmt.Errorf("method %q, not %q", method, p.method)
	case h.fields["x-drill"] != k.String(), h.fields["referer"] != "http://r/"+k.String(), h.fields["user-agent"] != "drill "+k.String():
		return p, fmt.Errorf("fields of another request")
	case h.fields["x-pad"] != stream{k, up}.letters(p.padding):
		return p, fmt.Errorf("padding of another request")
	case p.secure != (v.secure != nil):
		return p, fmt.Errorf("it was not for this server")
	case h.fields["x-secret"] != "":
		return p, fmt.Errorf("a field that Connection names")
	case p.inside() && h.fields["x-credential"] != "Bearer "+v.tenant.credential(), !p.inside() && h.fields["x-credential"] != "":
		return p, fmt.Errorf("the credential is %q", h.fields["x-credential"])
	}
	if p.method == "POST" || p.method == "PATCH" {
		if _, twice := v.d.seen.LoadOrStore(k, true); twice {
			return p, fmt.Errorf("a request that must not be sent again came twice")
		}
	}
	return p, nil
}

// exchange answers a request whose head has come.
func (v *visit) exchange(p *plan, h head) (keep bool, err error) {
	if p.class == classUpgrade {
		return false, v.upgrade(p)
	}
	w := &piecewise{w: v.Conn, pieces: p.answer, r: p.rand(down)}
	got := int64(0)
	if p.early == 0 {
		if p.expect {
			fmt.Fprintf(w, "HTTP/1.1 100 %s\r\n\r\n", p.key)
			if err := w.flush(); err != nil {
				return false, err
			}
		}
		if got, err = v.body(p); err != nil {
			return false, err
		}
	}
	w.keeps = p.unasked
	for range p.interims {
		fmt.Fprintf(w, "HTTP/1.1 103 %s\r\nX-Drill: %s\r\n\r\n", p.key, p.key)
	}
	v.answerHead(w, p, got)
	cut := p.downSize
	if p.cut() {
		cut = p.downCut
	}
	if !p.bodyless() {
		err = stream{p.key, down}.sendBody(w, p, p.down, p.downSize, cut)
	}
	var behind []byte
	if p.unasked {
		behind = unasked(p.key)
	}
	if e := w.finish(behind); err == nil {
		err = e
	}
	return v.end(p, err)
}

// body reads the request's body.
func (v *visit) body(p *plan) (int64, error) {
	got, err := stream{p.key, up}.receiveBody(v.r, p, p.up, p.upSize)
	return v.judgeBody(p, got, err)
}

// judgeBody holds what has come of a body against the plan.
func (v *visit) judgeBody(p *plan, got int64, err error) (int64, error) {
	switch {
	case err != nil && !isWrong(err):
		if p.upEnd == whole && p.early == 0 && v.d.sure(p) {
			return got, wrongf("%d of %d bytes of the body, then %w", got, p.upSize, err)
		}
		return got, err
	case err == nil && got != p.upSize:
		return got, wrongf("a body that ended with %d of %d bytes", got, p.upSize)
	case err == nil && p.upEnd != whole && p.early == 0:
		return got, wrongf("a whole body of a client that has not sent it")
	}
	return got, err
}

func (v *visit) answerHead(w io.Writer, p *plan, got int64) {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", p.status, p.key)
	for name, value := range p.answerFields(got) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	b.WriteString("Connection: X-Secret\r\nX-Secret: " + p.key.String() + "\r\n")
	if p.closes {
		b.WriteString("Connection: close\r\n")
	}
	if p.down == chunked {
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	b.WriteString("\r\n")
	io.WriteString(w, b.String())
}

// answerFields are those of the answer to a request of which the server had got bytes of body.
func (p *plan) answerFields(got int64) map[string]string {
	all := map[string]string{"X-Drill": p.key.String(), "Content-Type": "application/" + p.key.String(), "X-Got": strconv.FormatInt(got, 10),
		"X-Pad": stream{p.key, down}.letters(p.padDown)}
	if p.down == length {
		all["Content-Length"] = strconv.FormatInt(p.downSize, 10)
	}
	return all
}

// end does what the server does behind its answer.
func (v *visit) end(p *plan, err error) (keep bool, _ error) {
	switch {
	case p.downEnd == reset:
		abort(v.tcp)
		return false, nil
	case p.downEnd == finish:
		v.tcp.CloseWrite()
		v.d.over(p.key).wait()
		return false, nil
	case err != nil:
		if v.d.gate(p).patient && p.leaveAt < 0 && p.early == 0 && p.upEnd == whole && !p.unasked {
			return false, wrongf("%w, while it answered", err)
		}
		return false, err
	case p.early == earlyReads:
		_, err := v.body(p)
		return false, err
	case p.early == earlyStops:
		v.d.over(p.key).wait()
		return false, nil
	}
	return !p.closes && !p.hangsUp, nil
}
