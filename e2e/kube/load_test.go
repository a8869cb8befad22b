//go:build linux

package kube

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

var loadClients = flag.Int("clients", 100, "keep-alive clients, and as many tunnels, while the address changes hands")

// guest is a client that keeps its connection, and says something twice a second. When that fails
// it comes again, to where the Service leads.
type guest struct {
	tunnel bool
	target func() string
	ns     *nettest.Netns
	phase  *atomic.Int32 // 0 calm, 1 changing hands, 2 another holds

	conn  net.Conn
	r     *bufio.Reader
	fails [3]int // by phase
	first bool   // it was served since phase 2 began
	after int    // failures behind that
}

func (g *guest) run(ctx context.Context) {
	for ctx.Err() == nil {
		phase := g.phase.Load()
		err := g.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.fails[phase]++
			if g.first {
				g.after++
			}
			g.close()
			time.Sleep(100 * time.Millisecond)
			continue
		case phase == 2:
			g.first = true
		}
		time.Sleep(500 * time.Millisecond)
	}
	g.close()
}

func (g *guest) close() {
	if g.conn != nil {
		g.conn.Close()
		g.conn = nil
	}
}

// turn says something, on a new connection if there is none.
func (g *guest) turn(ctx context.Context) error {
	if g.conn == nil {
		target := g.target()
		if target == "" {
			return errors.New("no endpoint")
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		c, err := g.ns.DialContext(ctx, "tcp", target)
		if err != nil {
			return err
		}
		g.conn, g.r = c, bufio.NewReader(c)
		if g.tunnel {
			if err := g.ask(fmt.Sprintf("CONNECT %s:7 HTTP/1.1\r\nHost: x\r\n\r\n", nettest.ServerAV4), "CONNECT"); err != nil {
				return err
			}
		}
	}
	if !g.tunnel {
		return g.ask(fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", nettest.ServerAV4), "GET")
	}
	g.conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.WriteString(g.conn, "word"); err != nil {
		return err
	}
	_, err := io.ReadFull(g.r, make([]byte, 4))
	return err
}

func (g *guest) ask(head, method string) error {
	g.conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.WriteString(g.conn, head); err != nil {
		return err
	}
	res, err := http.ReadResponse(g.r, &http.Request{Method: method})
	if err != nil {
		return err
	}
	if method != "CONNECT" {
		io.Copy(io.Discard, res.Body)
	}
	if res.StatusCode != 200 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// While the address changes hands, clients that keep their connections see an error each, or some
// while nobody has it; none behind the first answer of the new holder.
func TestLoadWhileItChangesHands(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"told to end": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			f := newFailover(t, 2)
			was := f.awaitHolder(nil)
			nettest.Eventually(t, "the other waits for its turn", func() bool { return f.standsBy(was) })
			st := f.steady()
			target := func() string {
				st.mu.Lock()
				defer st.mu.Unlock()
				return st.target
			}
			nettest.Eventually(t, "the client is served", func() bool { return st.count() > 10 })
			var phase atomic.Int32
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			guests := make([]*guest, 2**loadClients)
			for i := range guests {
				guests[i] = &guest{tunnel: i%2 == 1, target: target, ns: f.Client, phase: &phase}
				all.Go(func() { guests[i].run(ctx) })
			}
			time.Sleep(3 * time.Second) // all have come, and said something
			phase.Store(1)
			was.signal(s)
			f.awaitHolder(was)
			phase.Store(2)
			time.Sleep(6 * time.Second)
			stop()
			all.Wait()
			for _, tunnel := range []bool{false, true} {
				seen, calm, after, served := map[int]int{}, 0, 0, 0
				for _, g := range guests {
					if g.tunnel == tunnel {
						seen[g.fails[1]+g.fails[2]]++
						calm += g.fails[0]
						after += g.after
						if g.first {
							served++
						}
					}
				}
				t.Logf("%-12s tunnels %-5v errors: clients %v, served by the new holder %d, errors behind that %d", name, tunnel, seen, served, after)
				assert.Zero(t, calm)
				assert.Zero(t, after, "none behind the first answer of the new holder")
				assert.Equal(t, *loadClients, served)
			}
			require.NotNil(t, f.holder())
		})
	}
}
