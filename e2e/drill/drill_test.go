package drill

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/ca"
)

var seed = flag.Uint64("seed", 0, "seed of the plans; 0: a new one")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lasts is how long the load is, by SLUICE_DRILL.
func lasts(t testing.TB) time.Duration {
	v := os.Getenv("SLUICE_DRILL")
	if v == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(v)
	require.NoError(t, err, "SLUICE_DRILL")
	return d
}

// drill is the whole of it.
type drill struct {
	t     *testing.T
	seed  uint64
	ctx   context.Context
	stop  context.CancelFunc
	gates []*gate

	tenants []*tenant
	owners  sync.Map // *tenant by key
	trust   *tls.Config

	plain, secure, tunnels *origin
	inside                 *origin     // of insideHost
	believe                *tls.Config // of who comes to that, and trusts the gateway's CA
	dead                   int         // a port at which nobody is
	streams, rough         *origin     // of insideHost, by HTTP/2
	transport              *http2.Transport
	clients                sync.Map // *http2.ClientConn by key
	ids                    atomic.Uint32
	seen                   sync.Map      // keys of requests that must come once
	ended                  sync.Map      // of *ended, by key
	stalls                 chan struct{} // slots for clients that don't read

	mu     sync.Mutex
	counts map[string]int
	faults int
}

func (d *drill) plan(k key) *plan { return planOf(d.seed, k) }

func (d *drill) gate(p *plan) *gate { return d.gates[int(p.gateway)%len(d.gates)] }

func (d *drill) count(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[what]++
}

// fault reports one and ends the load: what comes after the first is mostly noise.
func (d *drill) fault(p *plan, format string, args ...any) bool {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.faults++; d.faults <= 8 {
		what := fmt.Sprintf(format, args...)
		if p != nil {
			what += fmt.Sprintf("\nexchange: %s; gateway: %s", p, d.gate(p).name)
		}
		d.t.Errorf("seed %d: %s", d.seed, what)
	}
	d.stop()
	return false
}

// ended is for who waits until an exchange is over.
type ended struct {
	d    *drill
	once sync.Once
	c    chan struct{}
}

func (d *drill) over(k key) *ended {
	if p := d.plan(k); p.early != earlyStops && p.downEnd != finish {
		return &ended{d: d, c: make(chan struct{})} // nobody waits
	}
	e, _ := d.ended.LoadOrStore(k, &ended{d: d, c: make(chan struct{})})
	return e.(*ended)
}

func (e *ended) done() { e.once.Do(func() { close(e.c) }) }

func (e *ended) wait() {
	select {
	case <-e.c:
	case <-e.d.ctx.Done():
	}
}

// url is the target of p's request.
func (d *drill) url(w *worker, p *plan) string {
	scheme, o := "http", d.plain
	if p.secure {
		scheme, o = "https", d.secure
	}
	if p.class == classStray {
		o = w.plain
		if p.secure {
			o = w.secure
		}
	}
	port, host := o.port(), p.host
	switch {
	case p.class == classNowhere && host == "127.0.0.1":
		port = d.dead
	case p.secure && host != "127.0.0.1":
		host = "127.0.0.1" // which the certificate is for
	}
	if p.method == "CONNECT" {
		return fmt.Sprintf("%s:%d", host, port)
	}
	return fmt.Sprintf("%s://%s:%d/%s", scheme, host, port, p.key)
}

// deadPort is a port of 127.0.0.1 that is taken, and at which nobody listens.
func deadPort(t testing.TB) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	a, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return a.(*unix.SockaddrInet4).Port
}

func descriptors(t testing.TB) int {
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

// A random load on gateways that are patient, hasty and poor, while their rules change:
// every byte is whose it should be, and nothing is left at the end.
func TestDrill(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // so that the runtime's poller is there
	require.NoError(t, err)
	l.Close()
	before := descriptors(t)
	t.Run("load", load)
	nettest.Eventually(t, fmt.Sprintf("no more than %d descriptors are open", before), func() bool { return descriptors(t) <= before })
}

func load(t *testing.T) {
	var err error
	d := &drill{t: t, seed: *seed, counts: make(map[string]int), stalls: make(chan struct{}, 3), gates: gates(), tenants: tenants(), dead: deadPort(t)}
	if d.seed == 0 {
		d.seed = rand.Uint64()
	}
	t.Logf("-seed %d", d.seed)
	// A machine that has other things to do gets longer: what must have come about has, or never does.
	long := time.NewTimer(lasts(t))
	defer long.Stop()
	d.ctx, d.stop = context.WithTimeout(t.Context(), lasts(t)+time.Minute)
	defer d.stop()
	serverTLS, clientTLS := certificate(t)
	d.trust = clientTLS.Clone()
	d.trust.ServerName = "127.0.0.1"
	d.plain, d.secure, d.tunnels = d.newOrigin(nil, false), d.newOrigin(serverTLS, false), d.newOrigin(nil, true)
	d.inside, d.streams, d.rough = d.newOrigin(serverTLS, false), d.newStreams(serverTLS, false), d.newStreams(serverTLS, true)
	d.transport, err = newTransport()
	require.NoError(t, err)
	var authority *ca.Authority
	authority, d.believe = inspecting(t)
	res, generations := resolver(t), policies(t, d.tenants, authority, d.inside.port(), d.streams.port(), d.rough.port())
	for _, g := range d.gates {
		g.start(t, res, serverTLS, clientTLS, generations[0], d.tunnels.port())
	}
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{d: d, tenant: d.tenants[i%len(d.tenants)], plain: d.newOrigin(nil, false), secure: d.newOrigin(serverTLS, false), r: rand.New(rand.NewPCG(d.seed, rand.Uint64()))}
		wg.Go(w.run)
	}
	wg.Go(func() {
		turn := time.NewTicker(10 * time.Millisecond)
		defer turn.Stop()
		over := false
		for i := 0; d.ctx.Err() == nil; i++ {
			for _, g := range d.gates {
				g.http.SetGeneration(generations[i%2])
				g.tcp.SetGeneration(generations[i%2])
			}
			if i%100 == 0 {
				runtime.GC() // which empties the pools
			}
			select {
			case <-turn.C:
			case <-long.C:
				over = true
			case <-d.ctx.Done():
			}
			if over && i%10 == 0 && len(d.missing()) == 0 {
				d.stop()
			}
		}
	})
	wg.Wait()
	d.stop()
	for _, g := range d.gates {
		g.stop(t)
	}
	for _, n := range d.tenants {
		assert.Zero(t, n.usage.Open(), "%s holds what has ended", n.client)
		assert.NotZero(t, n.usage.Allowed.Load(), n.client)
	}
	d.report()
}

// must have come about, or the load was none.
var must = []string{
	"patient g whole", "patient g cut", "patient g left", "patient p whole", "patient w whole", "patient d 403", "patient n 502", "patient b 400",
	"patient t whole", "patient t cut", "patient u whole", "patient f whole", "patient f cut",
	"patient i whole", "patient i cut", "patient i left", "patient h whole", "patient h cut", "patient h left", "patient k whole", "patient k cut", "patient k left", "patient j whole",
	"server: a connection of several clients", "server: GOAWAY", "server: connection reset",
	"hasty i whole", "hasty g whole", "hasty x cut", "hasty t whole", "poor g whole",
}

func (d *drill) report() {
	total := 0
	var text strings.Builder
	for _, what := range slices.Sorted(maps.Keys(d.counts)) {
		fmt.Fprintf(&text, "%7d %s\n", d.counts[what], what)
		total += d.counts[what]
	}
	d.t.Logf("%d exchanges:\n%s", total, &text)
	if d.faults > 0 {
		return
	}
	assert.Empty(d.t, d.missing(), "it must have come about")
}

// missing is what must have come about and has not yet.
func (d *drill) missing() (all []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, what := range must {
		if d.counts[what] == 0 {
			all = append(all, what)
		}
	}
	return all
}
