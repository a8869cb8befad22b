package inspect

import (
	"slices"
	"sync"

	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/wire"
)

// pipe is a connection to the front door.
type pipe struct {
	conn *sock.Conn
	in   wire.Reader
	done func()
	once sync.Once
	used bool // it has carried a request before
}

// take returns a pipe: one that is quiet, or a new one.
func (t *tunnel) take(fresh bool) (*pipe, error) {
	for !fresh {
		p := t.reuse()
		if p == nil {
			break
		}
		if half, all := p.conn.PeerEnd(); !half && !all {
			return p, nil
		}
		p.close()
	}
	near, done, err := t.pipe()
	if err != nil {
		return nil, err
	}
	near.Share()
	p := &pipe{conn: near, done: done}
	p.in.Src = near.Blocking()
	return p, nil
}

func (t *tunnel) reuse() *pipe {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.free)
	if n == 0 {
		return nil
	}
	p := t.free[n-1]
	t.free = slices.Delete(t.free, n-1, n)
	return p
}

// put keeps p for the next request of this tunnel: its exchange is over, on both sides.
func (t *tunnel) put(p *pipe) {
	p.used = true
	p.in.Release()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		p.close()
		return
	}
	t.free = append(t.free, p)
}

// abort resets the pipe: the front door does not take what it has for the whole. It may be called
// concurrently with everything else.
func (p *pipe) abort() {
	p.conn.ResetOnClose()
	p.close()
}

// close closes the pipe. It may be called more than once.
func (p *pipe) close() {
	p.once.Do(func() {
		p.conn.Close()
		p.done()
	})
}
