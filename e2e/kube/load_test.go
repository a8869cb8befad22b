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

	last    time.Time     // of an answer
	without time.Duration // the longest time from one to the next, since phase 1 began
}

func (g *guest) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.turn(ctx)
		phase := g.phase.Load() // what ends in a phase may be of it
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.fails[phase]++
			if g.first {
				g.after++
			}
			g.close()
			time.Sleep(500 * time.Millisecond)
			continue
		case phase == 2:
			g.first = true
		}
		now := time.Now()
		if phase > 0 && !g.last.IsZero() {
			g.without = max(g.without, now.Sub(g.last))
		}
		g.last = now
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

// loadRow is what clients of one kind have seen.
type loadRow struct {
	how                   string
	tunnels               bool
	none, one, some, many int // clients, by the errors that each had
	served, after         int // clients that the new holder has served; errors behind that
	longest               time.Duration
}

// loadRows are those of this run.
var loadRows []loadRow

func (r *loadRow) add(g *guest) {
	switch n := g.fails[1] + g.fails[2]; {
	case n == 0:
		r.none++
	case n == 1:
		r.one++
	case n <= 5:
		r.some++
	default:
		r.many++
	}
	if g.first {
		r.served++
	}
	r.after += g.after
	r.longest = max(r.longest, g.without)
}

const loadHead = "| the holder is | clients | no error | one | two to five | more | longest without an answer | served by the new holder | errors behind that |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"

// String is the row of the table in docs/failover.md.
func (r loadRow) String() string {
	kind := "that keep a connection"
	if r.tunnels {
		kind = "in a tunnel"
	}
	return fmt.Sprintf("| %s | %d %s | %d | %d | %d | %d | %.1f s | %d | %d |", r.how, r.none+r.one+r.some+r.many, kind, r.none, r.one, r.some, r.many, r.longest.Seconds(), r.served, r.after)
}

// While the address changes hands, clients that keep their connections see an error each, or some
// while nobody has it; none behind the first answer of the new holder.
func TestLoadWhileItChangesHands(t *testing.T) {
	for _, how := range []struct {
		name string
		s    syscall.Signal
	}{{"told to end", syscall.SIGTERM}, {"killed", syscall.SIGKILL}} {
		t.Run(how.name, func(t *testing.T) {
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
			was.signal(how.s)
			f.awaitHolder(was)
			phase.Store(2)
			time.Sleep(6 * time.Second)
			stop()
			all.Wait()
			for _, tunnel := range []bool{false, true} {
				r, calm := loadRow{how: how.name, tunnels: tunnel}, 0
				for _, g := range guests {
					if g.tunnel == tunnel {
						r.add(g)
						calm += g.fails[0]
					}
				}
				t.Log(r)
				loadRows = append(loadRows, r)
				assert.Zero(t, calm)
				assert.Zero(t, r.after, "none behind the first answer of the new holder")
				assert.Equal(t, *loadClients, r.served)
			}
			require.NotNil(t, f.holder())
		})
	}
}
