//go:build linux

package http

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// beside is where the parents of these tests are: server B.
const beside = nettest.ServerBV4

// viaParent is what server A says of who came by a parent, and directly of who came from the gateway.
const viaParent, directly = "server-a saw " + beside, "server-a saw " + nettest.SourceV4

// scripted is a parent that does what a test says. It takes down what it was asked for.
type scripted struct {
	URL string

	mu    sync.Mutex
	heads [][]string // of each connection
}

// scripted runs one at a port of server B; config is for TLS, nil for none. play has a connection whose
// first head has come, and more for the next, which is "" when the gateway has ended.
func (o *outside) scripted(t testing.TB, port string, config *tls.Config, play func(c net.Conn, head string, more func() string)) *scripted {
	t.Helper()
	p := &scripted{URL: "http://" + beside + ":" + port}
	l := o.ServerB.Listen(beside + ":" + port)
	if config != nil {
		l, p.URL = tls.NewListener(l, config), "https://"+beside+":"+port
	}
	var open sync.WaitGroup
	conns := map[net.Conn]bool{}
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			conns[c] = true
			at := len(p.heads)
			p.heads = append(p.heads, nil)
			p.mu.Unlock()
			r := bufio.NewReader(c)
			more := func() string {
				head := nextHead(r)
				if head != "" {
					p.mu.Lock()
					p.heads[at] = append(p.heads[at], head)
					p.mu.Unlock()
				}
				return head
			}
			open.Go(func() {
				defer c.Close()
				if head := more(); head != "" {
					play(c, head, more)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range conns {
			c.Close()
		}
		p.mu.Unlock()
		open.Wait()
	})
	return p
}

// nextHead reads a head; "" at the end.
func nextHead(r *bufio.Reader) (head string) {
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		head += line
	}
	return head
}

// got are the heads that each connection has brought so far.
func (p *scripted) got() (all [][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, heads := range p.heads {
		all = append(all, append([]string(nil), heads...))
	}
	return all
}

// says answers with a text and ends.
func says(text string) func(net.Conn, string, func() string) {
	return func(c net.Conn, _ string, _ func() string) { io.WriteString(c, text) }
}

// hangs says nothing until the gateway ends.
func hangs(c net.Conn, _ string, _ func() string) { io.Copy(io.Discard, c) }

// drips says a head that does not end, an octet at a time.
func drips(c net.Conn, _ string, _ func() string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); err == nil; _, err = io.WriteString(c, "x") {
		<-tick.C
	}
}

// serves answers each request itself, as one that sends on by name would, with what it was shown.
func serves(c net.Conn, head string, more func() string) {
	for ; head != ""; head = more() {
		shown := "none"
		if _, rest, ok := strings.Cut(head, "\r\nProxy-Authorization: "); ok {
			shown, _, _ = strings.Cut(rest, "\r\n")
		}
		text := "the parent saw " + shown
		if strings.HasPrefix(head, "CONNECT ") {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			continue // what is asked for inside
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
}

// real runs a real Sluice as a parent, at a port of server B, with an admin port behind it. It lets
// through whatever is asked for, unless config says otherwise.
func (o *outside) real(t testing.TB, port, config string, args ...string) *gateway {
	t.Helper()
	if config == "" {
		config = "rules: \"*\"\n"
	}
	args = append([]string{"--listen", beside + ":" + port, "--admin", beside + ":1" + port, "--resolver", nettest.NodeV4, "--connect-timeout", "5s"}, args...)
	return start(t, program.Setup{Netns: o.ServerB, Config: config, Args: args})
}

// toA has names lead to server A.
func (o *outside) toA(names ...string) {
	for _, name := range names {
		o.DNS.Set(name, nettest.Addrs(nettest.ServerAV4))
	}
}

// stop ends a gateway by a signal, and waits for that.
func (g *gateway) stop() {
	g.t.Helper()
	g.Signal(syscall.SIGTERM)
	require.Equal(g.t, 0, g.Exit())
}

// lastParent is the parent in the last line of the access log, once that has n lines; "": none.
func (g *gateway) lastParent(n int) string {
	g.t.Helper()
	var lines []string
	nettest.Eventually(g.t, "the log has its line", func() bool { lines = g.AccessLog(); return len(lines) >= n })
	_, rest, ok := strings.Cut(lines[n-1], `"parent":"`)
	if !ok {
		return ""
	}
	parent, _, _ := strings.Cut(rest, `"`)
	return parent
}

// reload has a gateway read its configuration again, and waits until it has.
func (g *gateway) reload() {
	g.t.Helper()
	before := strings.Count(g.Stderr(), `"msg":"reloaded"`)
	g.Signal(syscall.SIGHUP)
	nettest.Eventually(g.t, "the configuration is in force", func() bool { return strings.Count(g.Stderr(), `"msg":"reloaded"`) > before })
}
