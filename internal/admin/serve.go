package admin

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// MaxConns bounds the connections to the admin port. The descriptors are set aside by
// proxy/fdbudget.
const MaxConns = 64

// Bounds of a request and its answer. Who is over them is cut off, so that no connection
// is busy for ever.
const (
	headTime  = 10 * time.Second
	bodyTime  = 5 * time.Second // no answer depends on a body, but one may come
	writeTime = 30 * time.Second
	idleTime  = time.Minute
	maxHead   = 16 << 10
)

// Serve answers at l until the server that it returns is closed; done is then given
// http.ErrServerClosed, and earlier what went wrong.
//
// There are at most MaxConns connections. One more takes the place of the one that has
// been silent longest, that is without a request under way; when none is, of the one whose
// request is under way longest: it may be one that never ends.
func (h *Handler) Serve(l net.Listener, log *slog.Logger) (s *http.Server, done <-chan error) {
	p := &places{Listener: l, all: make(map[net.Conn]*list.Element)}
	s = &http.Server{Handler: h, ConnState: p.changed, MaxHeaderBytes: maxHead,
		ReadHeaderTimeout: headTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(p) }()
	return s, failed
}

// places is a listener with so many places.
type places struct {
	net.Listener
	mu     sync.Mutex
	all    map[net.Conn]*list.Element // in silent or busy
	silent list.List                  // of net.Conn, the longest silent first
	busy   list.List                  // those with a request under way, the longest first
}

// Accept makes room for each connection that it returns.
func (p *places) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p.enter(c)
	return c, nil
}

func (p *places) enter(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) >= MaxConns {
		oldest := p.silent.Front()
		if oldest == nil { // all ask, or make as if they did
			oldest = p.busy.Front()
		}
		p.leave(oldest.Value.(net.Conn)).Close()
	}
	p.all[c] = p.silent.PushBack(c)
}

// leave forgets c.
func (p *places) leave(c net.Conn) net.Conn {
	if e := p.all[c]; e != nil {
		p.silent.Remove(e)
		p.busy.Remove(e)
	}
	delete(p.all, c)
	return c
}

// changed is told by the server what becomes of a connection. It is active from the end
// of a request's head to the end of the answer.
func (p *places) changed(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.all[c] == nil: // it has given way
	case state == http.StateActive:
		p.leave(c)
		p.all[c] = p.busy.PushBack(c)
	case state == http.StateIdle:
		p.leave(c)
		p.all[c] = p.silent.PushBack(c)
	case state == http.StateClosed, state == http.StateHijacked:
		p.leave(c)
	}
}

// mayAsk reports whether the request names this port by an address, as localhost, or by
// a name that it was given. Any other name may be one that an attacker's page has led
// here in a browser (DNS rebinding). Browsers always name a host; who does not is none.
func (h *Handler) mayAsk(r *http.Request) bool {
	if r.Host == "" {
		return true
	}
	t, err := acl.ParseTargetDefault(r.Host, 80)
	if err != nil {
		return false
	}
	return t.Host.IsAddr() || t.Host.Name() == "localhost" || h.names[t.Host.Name()]
}
