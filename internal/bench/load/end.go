//go:build linux

package load

import "github.com/sluiceproxy/sluice/internal/bench/raw"

// done ends a piece of work that went well.
func (e *engine) done(c *conn) {
	if e.counting {
		e.hist.add(e.now() - c.start)
	}
	e.ended++
	switch {
	case e.job.Kind == Hold:
		c.phase = held
		return
	case e.job.Kind == Get && !c.last:
		c.phase = idle
		c.served++
	default:
		if e.job.Kind == Get && e.counting {
			e.res.Reopened++
		}
		e.close(c)
	}
	e.free = append(e.free, c.number)
}

// fail ends a piece of work that did not.
func (e *engine) fail(c *conn, why string) {
	e.res.Errors[why]++
	e.ended++
	e.close(c)
	e.free = append(e.free, c.number)
}

// hungUp deals with a connection that ended too early.
func (e *engine) hungUp(c *conn, why string) {
	if c.req != nil && c.req.Broken && (c.phase == answer || c.phase == body) {
		c.last = true
		e.done(c)
		return
	}
	if c.phase == answer && c.served > 0 && len(c.part) == 0 {
		// It was closed while at rest: a client tries again.
		if e.counting {
			e.res.Retried++
		}
		e.close(c)
		for i := range e.job.Requests {
			if &e.job.Requests[i] == c.req {
				c.out = e.heads[i]
			}
		}
		e.piece(c)
		return
	}
	e.fail(c, why)
}

func (e *engine) close(c *conn) {
	if c.fd >= 0 {
		raw.Close(c.fd)
	}
	c.fd, c.phase = -1, closed
}

func (e *engine) closeAll() {
	for i := range e.conns {
		e.close(&e.conns[i])
	}
}
