//go:build linux

package kube

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// steady is a client that connects every 50 ms to the pod that the Service leads to, as
// kube-proxy would have it, and asks for a page. It takes down for how long nobody answered.
type steady struct {
	f    *failover
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	target  string
	good    int
	wrong   []string // answers that are no page
	last    time.Time
	longest time.Duration // between two good answers
}

// steady starts one, which ends with the test.
func (f *failover) steady() *steady {
	ctx, cancel := context.WithCancel(f.t.Context())
	s := &steady{f: f, stop: cancel}
	f.t.Cleanup(s.end)
	s.done.Go(func() {
		for ctx.Err() == nil {
			e := f.endpoint()
			s.mu.Lock()
			s.target = e
			s.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
	})
	s.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			s.done.Go(func() { s.ask(ctx) })
		}
	})
	return s
}

func (s *steady) end() {
	s.stop()
	s.done.Wait()
}

// ask asks once, within a second.
func (s *steady) ask(ctx context.Context) {
	s.mu.Lock()
	target := s.target
	s.mu.Unlock()
	if target == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := s.page(ctx, target)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && answer == "200 "+nettest.HeldV4:
		now := time.Now()
		if !s.last.IsZero() {
			s.longest = max(s.longest, now.Sub(s.last))
		}
		s.good, s.last = s.good+1, now
	case err == nil && !strings.HasPrefix(answer, "502 ") && !strings.HasPrefix(answer, "504 "): // while nobody holds it
		s.wrong = append(s.wrong, answer)
	}
}

// page asks a gateway for a page of the server.
func (s *steady) page(ctx context.Context, target string) (string, error) {
	return s.pageOf(ctx, target, nettest.ServerAV4)
}

func (s *steady) pageOf(ctx context.Context, target, host string) (string, error) {
	c, err := s.f.Client.DialContext(ctx, "tcp", target)
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", host)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, body), err
}

// outage is the longest time without a good answer since the last call, when there are some
// again.
func (s *steady) outage() time.Duration {
	s.f.t.Helper()
	begun := s.count()
	nettest.Eventually(s.f.t, "the client is served", func() bool { return s.count() > begun+5 })
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := s.longest
	s.longest = 0
	return longest
}

func (s *steady) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.good
}

// echo is a tunnel that says something now and then, and sees whether that comes back.
type echo struct {
	c net.Conn
	r *bufio.Reader
}

// tunnel opens one through a replica.
func (r *replica) tunnel() (*echo, error) {
	ctx, cancel := context.WithTimeout(r.f.t.Context(), 5*time.Second)
	defer cancel()
	c, err := r.f.Client.DialContext(ctx, "tcp", nettest.PodOf(r.index)+":8080")
	if err != nil {
		return nil, err
	}
	r.f.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "CONNECT %s:7 HTTP/1.1\r\nHost: x\r\n\r\n", nettest.ServerAV4)
	e := &echo{c, bufio.NewReader(c)}
	res, err := http.ReadResponse(e.r, &http.Request{Method: "CONNECT"})
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return e, err
}

// works reports whether a word comes back within the limit.
func (e *echo) works(limit time.Duration) bool {
	e.c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(e.c, "word"); err != nil {
		return false
	}
	b := make([]byte, 4)
	_, err := io.ReadFull(e.r, b)
	return err == nil && string(b) == "word"
}
