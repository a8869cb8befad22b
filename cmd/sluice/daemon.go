package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluiceproxy/sluice/internal/admin"
)

// What the commands that keep running share: signals and the admin port.

// notify delivers the signals that a running command knows, until stop is called.
func notify() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	return signals, func() { signal.Stop(signals) }
}

// attend waits until ctx ends, a part has failed or a signal ends the program,
// which it returns. A SIGHUP calls hangUp.
func attend(ctx context.Context, signals <-chan os.Signal, failed <-chan error, hangUp func()) (os.Signal, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case err := <-failed:
			return nil, err
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return sig, nil
			}
			hangUp()
		}
	}
}

// poke puts a word into c, unless there is one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drainContext ends after limit, or at a second signal.
func drainContext(limit time.Duration, signals <-chan os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					cancel()
				}
			}
		}
	}()
	return ctx, cancel
}

// console is the admin port. A nil one is none.
type console struct {
	l       net.Listener
	handler *admin.Handler
	server  *http.Server
}

// openConsole listens at addr; "": there is no admin port.
func openConsole(addr string) (*console, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // net says the address, too
		}
		return nil, fmt.Errorf("sluice: listen on admin port %s: %w", addr, err)
	}
	return &console{l: l}, nil
}

// handle says what the port answers. It is not served yet.
func (c *console) handle(reg *prometheus.Registry, status func() admin.Status, pprof bool, log *slog.Logger) {
	if c == nil {
		return
	}
	c.handler = admin.New(reg, status, pprof)
	c.server = &http.Server{Handler: c.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// serve answers until close is called. A failure goes to failed.
func (c *console) serve(failed chan<- error) {
	if c == nil {
		return
	}
	go func() {
		if err := c.server.Serve(c.l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve the admin port: %w", err)
		}
	}()
}

// ready says what /readyz answers.
func (c *console) ready(ready bool) {
	if c != nil {
		c.handler.Ready.Store(ready)
	}
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
