//go:build linux

package http

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var flooding = flag.Duration("flood", 0, "for how long others' times are measured beside a flood of handshakes, and without; 0: only that they are served")

// others are two clients with a connection each: one in plain, and one in an opened tunnel.
type others struct {
	send  [2]func() error
	times [2][]time.Duration
}

func newOthers(t testing.TB, o *inspected) *others {
	t.Helper()
	plain := dialClient(t, o.outside)
	inside, r := o.inside(t, "api.example.com:443", "api.example.com")
	for _, c := range []net.Conn{plain, inside} {
		require.NoError(t, c.SetDeadline(time.Time{}))
	}
	ask := func(c io.Writer, r *bufio.Reader, request string) func() error {
		return func() error {
			if _, err := io.WriteString(c, request); err != nil {
				return err
			}
			status, body := answer(t, r)
			if status != 200 {
				return fmt.Errorf("%d %s", status, body)
			}
			return nil
		}
	}
	return &others{send: [2]func() error{
		ask(plain, bufio.NewReader(plain), "GET http://other.example.com/ HTTP/1.1\r\nHost: other.example.com\r\n\r\n"),
		ask(inside, r, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"),
	}}
}

// work has each of them send a request every two milliseconds, for so long and n times at least.
func (o *others) work(t testing.TB, n int, long time.Duration) {
	t.Helper()
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for end := time.Now().Add(long); n > 0 || time.Now().Before(end); n-- {
		for i, send := range o.send {
			<-pace.C
			begun := time.Now()
			require.NoError(t, send())
			o.times[i] = append(o.times[i], time.Since(begun))
		}
	}
}

// p99 of those that were measured since it was asked for last.
func (o *others) p99(i int) time.Duration {
	all := o.times[i]
	o.times[i] = nil
	slices.Sort(all)
	return all[len(all)*99/100]
}

// kind is what others' times are measured beside.
type kind struct {
	what  string
	from  string        // the address of who does that
	how   string        // see floodMain, but for the host; "": nothing
	every time.Duration // one of its tunnels begins; 0: as soon as it can
	most  int           // tunnels of the flood in each second, when it has to wait; 0: as many as may be, and it does not
	long  bool          // for the measure alone
}

// kinds are of an address each, so that what the gateway remembers of one is not held against another.
var kinds = []kind{
	{what: "nothing"},
	{what: "handshakes ended", how: ":8080,api.example.com,whole", from: "fd00:128::e1", most: 100 + 64},
	{what: "handshakes ended at another server, 140 a second", every: time.Second / 140, how: ":8443,api.example.com,whole", from: "fd00:128::e2", long: true},
	{what: "handshakes begun", how: ":8080,api.example.com,", from: "fd00:128::e3", most: 10 + 64},
	{what: "tunnels", how: ":8080,,", from: "fd00:128::e4", long: true},
}

// A client that floods the gateway with handshakes keeps nobody from being served, and has to wait itself. With
// -flood 10s it says what that does to others' times, beside what they are without, beside the same flood of
// another server, of which nothing is the gateway's work, and beside as many tunnels in which nothing is sent.
func TestHandshakeFlood(t *testing.T) {
	o := newInspectedOf(t, program.Setup{Plain: true}, "\n  - {host: api.example.com, requests: '*'}\n", "--access-log", "off")
	clients := newOthers(t, o)
	for _, b := range kinds[1:] {
		o.Client.Address("eth0", b.from+"/64")
	}
	rounds := 1
	if *flooding > 0 {
		rounds = 16
		o.background(t, o.Egress, nil, ":8443,api.example.com,serve,,")
	}
	names := []string{"in plain", "inside TLS"}
	p99s, tunnels := map[string][]time.Duration{}, map[string][]float64{}
	for range rounds {
		for _, b := range kinds {
			if b.long && *flooding == 0 {
				continue
			}
			stop := o.flood(t, b)
			seen, begun := o.count(t, connects), time.Now()
			clients.work(t, 50, *flooding/time.Duration(rounds))
			seen = o.count(t, connects) - seen
			seconds := time.Since(begun).Seconds()
			if b.most > 0 {
				assert.LessOrEqual(t, float64(seen), 256+float64(b.most)*seconds, "%s are bounded for each client", b.what)
			}
			stop()
			tunnels[b.what] = append(tunnels[b.what], float64(seen)/seconds)
			for i, name := range names {
				p99s[name+b.what] = append(p99s[name+b.what], clients.p99(i))
			}
		}
	}
	assert.Equal(t, "0", o.g.Metric("sluice_panics_total"))
	for _, name := range names {
		alone := quartile(p99s[name+kinds[0].what])
		for _, b := range kinds {
			if len(tunnels[b.what]) == 0 {
				continue
			}
			p99 := quartile(p99s[name+b.what])
			t.Logf("%s: p99 %v, %.2f times that alone beside %s (%.0f tunnels/s)", name, p99, float64(p99)/float64(alone), b.what, quartile(tunnels[b.what]))
		}
	}
}

// quartile is the lower one: of the quieter rounds, for others of a machine's host take from it what they like.
func quartile[T cmp.Ordered](all []T) T {
	slices.Sort(all)
	return all[len(all)/4]
}

const (
	waits    = "sluice_tls_handshakes_waited_total"
	connects = `sluice_requests_total{mode="connect",reason="rule",verdict="allow"}`
)

// count is a metric's value.
func (o *inspected) count(t testing.TB, metric string) (n int) {
	t.Helper()
	_, err := fmt.Sscan(o.g.Metric(metric), &n)
	require.NoError(t, err)
	return n
}

// flood has a client of another address flood the gateway in that way, until stop is called. It has
// what is left of the processors: where it is a machine of its own, it takes nothing from the gateway's.
func (o *inspected) flood(t testing.TB, b kind) (stop func()) {
	t.Helper()
	if b.how == "" {
		return func() {}
	}
	waited := o.count(t, waits)
	stop = o.background(t, o.Client, []string{"chrt", "--idle", "0"}, "["+nettest.PodV6+"]"+b.how+","+b.from+","+b.every.String())
	if b.most > 0 {
		nettest.Eventually(t, "they have to wait", func() bool { return o.count(t, waits) > waited+64 })
	}
	return stop
}

// background runs floodMain there, by that command if there is one.
func (o *inspected) background(t testing.TB, ns *nettest.Netns, by []string, how string) (stop func()) {
	t.Helper()
	by = append(by, os.Args[0])
	cmd := exec.Command(by[0], by[1:]...)
	cmd.Env = append(os.Environ(), floodEnv+"="+how)
	require.NoError(t, ns.Do(func() error { stop = program.Background(t, cmd); return nil }))
	return stop
}
