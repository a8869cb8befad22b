package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluiceproxy/sluice/internal/admin"
)

// console is the admin port. A nil one is none.
type console struct {
	l       net.Listener
	handler *admin.Handler
	log     *slog.Logger
	server  *http.Server // nil until it is served

	mu      sync.Mutex
	leaving bool
}

// openConsole has listen listen at addr, which the setting says; "": there is no admin port.
func openConsole(listen func(addr string) (net.Listener, error), setting, addr string) (*console, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := listen(addr)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // net says the address, too
		}
		return nil, listenError(setting, addr, err)
	}
	return &console{l: l}, nil
}

// handle says what the port answers. It is not served yet.
func (c *console) handle(reg *prometheus.Registry, status func() admin.Status, pprof bool, names []string, log *slog.Logger) {
	if c != nil {
		c.handler, c.log = admin.New(reg, status, pprof, names...), log
	}
}

// detail says what /readyz?verbose has behind the answer, and what was said before. It is called
// before serve.
func (c *console) detail(lines func() []string) {
	if c == nil {
		return
	}
	before := c.handler.Details
	c.handler.Details = func() (all []string) {
		if before != nil {
			all = before()
		}
		return append(all, lines()...)
	}
}

// policy says what is in force to who asks for it. It is called before serve.
func (c *console) policy(is func() admin.Policy) {
	if c != nil {
		c.handler.ServePolicy(is)
	}
}

// explain answers who asks what decides, and why. It is called before serve.
func (c *console) explain(why func(url.Values) (any, error)) {
	if c != nil {
		c.handler.ServeExplain(why)
	}
}

// serve answers until close is called. failed is told of a failure.
func (c *console) serve(failed func(error)) {
	if c == nil {
		return
	}
	var done <-chan error
	c.server, done = c.handler.Serve(c.l, c.log)
	go func() {
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serve the admin port: %w", err))
		}
	}()
}

// ready says what /readyz answers, until leave is called.
func (c *console) ready(ready bool) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handler.Ready.Store(ready && !c.leaving)
}

// leave has /readyz say no from now on.
func (c *console) leave() {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	c.ready(false)
}

func (c *console) close() {
	if c == nil {
		return
	}
	if c.server != nil {
		c.server.Close()
	}
	c.l.Close()
}
