//go:build linux

package http

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var (
	openMost  = flag.Int("open", 1500, "how many connections are open when the rules change, at most what the descriptors allow")
	reloading = flag.Duration("reloading", 4*time.Second, "for how long the rules are changed every second then")
)

// revoked are servers of which one is denied later, and what is open to them.
type revoked struct {
	t       *testing.T
	g       *gateway
	servers [3]string // the last is denied
	open    [3]atomic.Int64
	next    sync.Map // id of a stream → chan that has its server send the next number

	kept, denied []*openConn
}

// openConn is a tunnel, an upgraded request or an answer under way, whose every byte is known.
type openConn struct {
	net.Conn
	id     int
	stream chan struct{} // has the server send a number; nil: what is sent comes back
	round  uint64
}

func newRevoked(t *testing.T, n int) *revoked {
	r := &revoked{t: t, g: start(t, program.Setup{Rules: loopback, Plain: true})}
	for i := range r.servers {
		l := listen(t)
		s := &http.Server{Handler: http.HandlerFunc(r.serve), ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				r.open[i].Add(1)
			case http.StateClosed, http.StateHijacked:
				r.open[i].Add(-1)
			}
		}}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		r.servers[i] = l.Addr().String()
	}
	for id := range n {
		c := r.begin(id, r.servers[id/3%3])
		if id/3%3 == 2 {
			r.denied = append(r.denied, c)
		} else {
			r.kept = append(r.kept, c)
		}
	}
	return r
}

// rules has other rules put in force.
func (r *revoked) rules(text string) {
	require.NoError(r.t, os.WriteFile(r.g.Rules, []byte(text), 0o600))
	r.g.Signal(syscall.SIGHUP)
}

// serve is an echo, or a stream of numbers, of which each is asked for.
func (r *revoked) serve(w http.ResponseWriter, req *http.Request) {
	id, streams := strings.CutPrefix(req.URL.Path, "/stream/")
	if !streams {
		upgradeEcho(w, req)
		return
	}
	next := make(chan struct{})
	r.next.Store(id, next)
	w.Header().Set("Content-Length", "8000000")
	http.NewResponseController(w).Flush()
	for n := uint64(0); ; n++ {
		select {
		case <-req.Context().Done():
			return
		case <-next:
		}
		w.Write(binary.BigEndian.AppendUint64(nil, n))
		http.NewResponseController(w).Flush()
	}
}

// begin opens the connection of that id: a tunnel, an upgraded request or a stream.
func (r *revoked) begin(id int, server string) *openConn {
	c := &openConn{Conn: r.g.Connect(), id: id}
	require.NoError(r.t, c.SetDeadline(time.Now().Add(*reloading+5*time.Minute)))
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	switch id % 3 {
	case 0:
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", server, server)
		require.Regexp(r.t, "^HTTP/1.1 200 ", readHead(r.t, c))
		fmt.Fprintf(c, "GET /echo HTTP/1.1\r\nHost: %s\r\n"+upgrade, server)
		require.Regexp(r.t, "^HTTP/1.1 101 ", readHead(r.t, c))
	case 1:
		fmt.Fprintf(c, "GET http://%s/echo HTTP/1.1\r\nHost: %s\r\n"+upgrade, server, server)
		require.Regexp(r.t, "^HTTP/1.1 101 ", readHead(r.t, c))
	default:
		fmt.Fprintf(c, "GET http://%s/stream/%d HTTP/1.1\r\nHost: %s\r\n\r\n", server, id, server)
		require.Regexp(r.t, "^HTTP/1.1 200 ", readHead(r.t, c))
		next, _ := r.next.Load(fmt.Sprint(id))
		c.stream = next.(chan struct{})
	}
	return c
}

// exchange has 8 bytes come that are known.
func (c *openConn) exchange() error {
	want := binary.BigEndian.AppendUint64(nil, uint64(c.id)<<32|c.round)
	if c.stream != nil {
		want = binary.BigEndian.AppendUint64(nil, c.round)
		c.stream <- struct{}{}
	} else if _, err := c.Write(want); err != nil {
		return err
	}
	c.round++
	got := make([]byte, 8)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("%x came where %x was to", got, want)
	}
	return nil
}

// each calls f for all, several at once, and returns the first error.
func each(all []*openConn, f func(*openConn) error) (first error) {
	var wg sync.WaitGroup
	var once sync.Once
	work := make(chan *openConn)
	for range 16 {
		wg.Go(func() {
			for c := range work {
				if err := f(c); err != nil {
					once.Do(func() { first = fmt.Errorf("%d: %w", c.id, err) })
				}
			}
		})
	}
	for _, c := range all {
		work <- c
	}
	close(work)
	wg.Wait()
	return first
}

// A reload that denies a third of what is open ends that third, with a line each, and no byte of
// the rest is lost: of tunnels, upgraded requests, answers under way and pooled connections. Under
// a reload a second memory stays as it is.
func TestRevocationAtLarge(t *testing.T) {
	r := newRevoked(t, *openMost/9*9)
	get(t, r.g.Client(), "http://"+r.servers[2]+"/pooled") // which leaves an idle connection
	all := append(append([]*openConn(nil), r.kept...), r.denied...)
	require.NoError(t, each(all, (*openConn).exchange))

	ended := make(chan time.Duration, 1)
	var began time.Time
	go func() {
		each(r.denied, func(c *openConn) error {
			_, err := io.ReadFull(c, make([]byte, 1))
			return err
		})
		ended <- time.Since(began)
	}()
	rules := fmt.Sprintf("!127.0.0.1:%s\n%s", program.PortOf(t, r.servers[2]), loopback)
	began = time.Now()
	r.rules(rules)
	took := time.Duration(0)
	for rounds := 0; took == 0; rounds++ { // meanwhile the others go on
		require.NoError(t, each(r.kept, (*openConn).exchange), "round %d", rounds)
		select {
		case took = <-ended:
			t.Logf("%d of %d ended %s after the reload was asked for; %d rounds of the others meanwhile", len(r.denied), len(all), took, rounds)
		default:
		}
	}
	nettest.Eventually(t, "no connection to the denied server is left", func() bool { return r.open[2].Load() <= 0 })
	nettest.Eventually(t, "each has its line", func() bool {
		lines := 0
		for _, line := range r.g.AccessLog() {
			if strings.Contains(line, `"revoked":"line 1 !127.0.0.1:`) {
				lines++
			}
		}
		return lines == len(r.denied)
	})

	require.NoError(t, each(r.kept, (*openConn).exchange))
	before, _ := r.g.memory()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	reloads := 0
	for end := time.Now().Add(*reloading); time.Now().Before(end); reloads++ {
		r.rules(fmt.Sprintf("!192.0.2.%d\n%s", reloads%200, rules))
		require.NoError(t, each(r.kept, (*openConn).exchange), "reload %d", reloads)
		<-tick.C
	}
	after, _ := r.g.memory()
	t.Logf("%d reloads with %d open: %d MiB before, %d MiB after", reloads, len(r.kept), before, after)
	assert.Less(t, after, before+growth)
	assert.Equal(t, "1", r.g.Metric(reloadOK))
}
