package drill

import (
	"bytes"
	"math/rand/v2"
	"time"
)

// workers is how many clients there are at a time.
const workers = 48

// worker is one client after another.
type worker struct {
	d             *drill
	r             *rand.Rand
	tenant        *tenant
	plain, secure *origin // its own: nobody else's requests go there
}

func (w *worker) run() {
	for w.d.ctx.Err() == nil {
		w.life()
	}
}

// draw is the plan of the next exchange, of the class, over g.
func (w *worker) draw(class byte, gateway int) *plan {
	k := key{class, uint8(gateway), w.d.ids.Add(1)}
	w.d.owners.Store(k, w.tenant)
	return w.d.plan(k)
}

// life is one connection, with some exchanges.
func (w *worker) life() {
	i := pick(w.r, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2)
	g := w.d.gates[i]
	switch n := w.r.IntN(100); {
	case n < 20:
		w.tunnel(g, w.draw(classConnect, i))
		return
	case n < 30:
		w.tunnel(g, w.draw(classTCP, i))
		return
	case n < 40:
		w.upgrade(g, w.draw(classUpgrade, i))
		return
	case n < 44 && g.name == "hasty":
		w.stall(g, w.draw(classStall, i))
		return
	}
	switch w.r.IntN(4) {
	case 0:
		w.goInside(g, i)
		return
	case 1:
		w.goStreams(g, i)
		return
	}
	c := w.connect(g, g.addr)
	if c == nil {
		return
	}
	defer c.Close()
	for range 1 + w.r.IntN(8) {
		if !w.next(c, i) || w.d.ctx.Err() != nil {
			return
		}
	}
}

// next makes one exchange or some, and reports whether the connection can carry more.
func (w *worker) next(c *client, gateway int) bool {
	switch n := w.r.IntN(100); {
	case n < 10:
		return w.pipeline(c, gateway)
	case n < 20:
		return w.talker(c, gateway)
	case n < 28:
		return c.exchange(w.draw(classDenied, gateway))
	case n < 32:
		return c.exchange(w.draw(classNowhere, gateway))
	case n < 36:
		return c.exchange(w.draw(classBad, gateway))
	}
	return c.exchange(w.draw(classFree, gateway))
}

// pipeline sends some requests before it reads the first answer.
func (w *worker) pipeline(c *client, gateway int) bool {
	c.SetDeadline(time.Now().Add(patience))
	var plans []*plan
	var all bytes.Buffer
	for range 2 + w.r.IntN(4) {
		p := w.draw(classPipe, gateway)
		if oneIn(w.r, 6) {
			for p = w.draw(classDenied, gateway); p.up != noBody; {
				p = w.draw(classDenied, gateway)
			}
		}
		plans = append(plans, p)
		all.WriteString(c.request(p))
	}
	sent := make(chan error, 1)
	go func() {
		out := &piecewise{w: c, pieces: plans[0].pieces, r: plans[0].rand(up)}
		out.Write(all.Bytes())
		sent <- out.flush()
	}()
	ok := true
	for _, p := range plans {
		a := c.receive(p, make(chan bool, 1))
		if ok = c.judge(p, &a, nil) && a.whole && !a.closes; !ok {
			c.Close()
			break
		}
	}
	<-sent
	return ok
}

// talker has a server speak unasked between two requests.
func (w *worker) talker(c *client, gateway int) bool {
	for range 2 {
		p := w.draw(classStray, gateway)
		if !c.exchange(p) {
			return false
		}
		w.plain.speakUp(p.key)
		w.secure.speakUp(p.key)
	}
	return c.exchange(w.draw(classStray, gateway))
}

// stall is a client that takes nothing for so long that it is cut.
func (w *worker) stall(g *gate, p *plan) {
	select {
	case w.d.stalls <- struct{}{}:
		defer func() { <-w.d.stalls }()
	default:
		return // enough do
	}
	c := w.connect(g, g.addr)
	if c == nil {
		return
	}
	defer c.Close()
	c.tcp.SetReadBuffer(64 << 10)
	c.exchange(p)
}
