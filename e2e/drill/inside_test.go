package drill

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
)

// goInside is a connection whose exchanges are inside a tunnel that the gateway opens.
func (w *worker) goInside(g *gate, gateway int) {
	c := w.connect(g, g.addr)
	if c == nil {
		return
	}
	defer c.Close()
	if !c.goInside(classInside, w.d.inside.port()) {
		return
	}
	for range 1 + w.r.IntN(8) {
		if !c.exchange(w.draw(classInside, gateway)) || w.d.ctx.Err() != nil {
			return
		}
	}
}

// goInside asks for the tunnel and does the handshake in it, for one of protos or, with none, for
// HTTP/1.1.
func (c *client) goInside(class byte, port int, protos ...string) bool {
	d := c.w.d
	target := fmt.Sprintf("%s:%d", insideHost, port)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
	h, _, err := readHead(c.r)
	switch {
	case (err != nil || !strings.HasPrefix(h.start, "HTTP/1.1 200 ")) && c.g.patient:
		return d.fault(nil, "a tunnel to be opened: %v %+v", err, h)
	case err != nil || !strings.HasPrefix(h.start, "HTTP/1.1 200 "):
		d.count(fmt.Sprintf("%s %c no tunnel", c.g.name, class))
		return false
	case c.r.Buffered() > 0:
		return d.fault(nil, "%d bytes in front of the handshake", c.r.Buffered())
	}
	believe := d.believe.Clone()
	believe.NextProtos = protos
	secure := tls.Client(c.wire, believe)
	switch err := secure.Handshake(); {
	case err != nil && c.g.patient:
		return d.fault(nil, "handshake inside, with %s: %v", c.g.name, err)
	case err != nil:
		d.count(fmt.Sprintf("%s %c no handshake", c.g.name, class))
		return false
	}
	c.wire, c.inside = secure, true
	c.r = bufio.NewReaderSize(c, 16<<10)
	return true
}

// insideHead begins a request inside a tunnel.
func (c *client) insideHead(w io.Writer, p *plan) {
	fmt.Fprintf(w, "%s /%s HTTP/1.%d\r\nHost: %s:%d\r\nX-Credential: stolen\r\nx_credential: stolen\r\n", p.method, p.key, p.minor, insideHost, c.w.d.inside.port())
}
