//go:build linux

package http

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var flooding = flag.Duration("flood", 0, "for how long others' times are measured beside a flood of handshakes, and without; 0: only that they are served")

// floodEnv has the test's program be a client that floods the gateway there.
const floodEnv = "SLUICE_TEST_FLOOD"

// flood makes tunnels to an inspected host; hello is sent in each, and no handshake is ever ended: it costs
// the client nothing, for it is always the same, and the gateway a key exchange and a signature. "": the tunnel
// alone is made. whole: each handshake is ended, which costs the client as much as the gateway.
func flood(addr, name string, whole bool) {
	var hello []byte
	if name != "" {
		hello = helloOf(name)
	}
	begin := func(c net.Conn) { beginHandshake(c, hello) }
	if whole {
		begin = func(c net.Conn) { wholeHandshake(c, name) }
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				if c, err := net.Dial("tcp", addr); err == nil {
					begin(c)
				}
			}
		})
	}
	wg.Wait()
}

// beginHandshake sends the hello in a tunnel, and hangs up at the first bytes of the answer.
func beginHandshake(c net.Conn, hello []byte) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_ = c.(*net.TCPConn).SetLinger(0)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make([]byte, 4096)
	if n, err := c.Read(answer); err != nil || !bytes.Contains(answer[:n], []byte(" 200 ")) || hello == nil {
		return
	}
	_, _ = c.Write(hello)
	_, _ = c.Read(answer)
}

// wholeHandshake does one, and hangs up.
func wholeHandshake(c net.Conn, name string) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_ = c.(*net.TCPConn).SetLinger(0)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make([]byte, 4096)
	if n, err := c.Read(answer); err != nil || !bytes.Contains(answer[:n], []byte(" 200 ")) {
		return
	}
	_ = tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() //nolint:gosec // it asks for nothing
}

// helloOf is what crypto/tls begins with.
func helloOf(name string) []byte {
	near, far := net.Pipe()
	go func() { _ = tls.Client(near, &tls.Config{ServerName: name}).Handshake(); _ = near.Close() }() //nolint:gosec // nobody answers
	b := make([]byte, 4096)
	n, _ := far.Read(b)
	_ = far.Close()
	return b[:n]
}

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

// A client that floods the gateway with handshakes keeps nobody from being served. With -flood 10s it
// says what that does to others' times, beside what they are without, and beside as many tunnels in which
// nothing is sent. Handshakes that come to nothing are few, since they have to wait.
func TestHandshakeFlood(t *testing.T) {
	o := newInspectedOf(t, program.Setup{Plain: true}, "\n  - {host: api.example.com, requests: '*'}\n", "--access-log", "off")
	clients := newOthers(t, o)
	rounds := 1
	if *flooding > 0 {
		rounds = 5
	}
	kinds := []struct{ name, how string }{
		{"alone", ""}, {"beside tunnels", ","}, {"beside handshakes ended", "api.example.com,whole"}, {"beside handshakes begun", "api.example.com,"},
	}
	const failures = "sluice_tls_handshakes_failed_total"
	names := []string{"in plain", "inside TLS"}
	p99s := map[string][]time.Duration{}
	for range rounds {
		for _, kind := range kinds {
			stop := func() {}
			if kind.how != "" {
				stop = o.flood(t, kind.how)
			}
			failed, begun := o.count(t, failures), time.Now()
			clients.work(t, 50, *flooding/time.Duration(rounds))
			if failed, seconds := o.count(t, failures)-failed, time.Since(begun).Seconds(); kind.name == "beside handshakes begun" {
				assert.LessOrEqual(t, float64(failed), 32+64*(seconds+1), "those that fail are bounded for each client")
			}
			if kind.name == "beside handshakes begun" {
				nettest.Eventually(t, "they have to wait", func() bool { return o.count(t, "sluice_tls_handshakes_waited_total") > 0 })
			}
			stop()
			for i, name := range names {
				p99s[name+kind.name] = append(p99s[name+kind.name], clients.p99(i))
			}
		}
	}
	assert.Equal(t, "0", o.g.Metric("sluice_panics_total"))
	t.Logf("%d handshakes failed", o.count(t, failures))
	for _, name := range names {
		var alone time.Duration
		for _, kind := range kinds {
			all := p99s[name+kind.name]
			slices.Sort(all)
			median := all[len(all)/2]
			if alone == 0 {
				alone = median
			}
			t.Logf("%s: p99 %v %s, %.2f times that alone", name, median, kind.name, float64(median)/float64(alone))
		}
	}
}

// count is a metric's value.
func (o *inspected) count(t testing.TB, metric string) (n int) {
	t.Helper()
	_, err := fmt.Sscan(o.g.Metric(metric), &n)
	require.NoError(t, err)
	return n
}

// flood has a client of its own flood the gateway in that way, until stop is called.
func (o *inspected) flood(t testing.TB, how string) (stop func()) {
	t.Helper()
	cmd := exec.Command("nice", "-n", "19", os.Args[0])
	cmd.Env = append(os.Environ(), floodEnv+"="+nettest.PodV4+":8080,"+how)
	require.NoError(t, o.Client.Do(func() error { stop = program.Background(t, cmd); return nil }))
	nettest.Eventually(t, "the flood is there", func() bool { return o.count(t, "sluice_client_connections") > 8 })
	return stop
}
