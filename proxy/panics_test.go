package proxy

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
)

// Whatever panics, its connection leaves once, its descriptors are given back, and nobody else
// is harmed: also when the place of what has panicked is another client's at once.
func TestPanicsLeaveOnce(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	web := rawOrigin(t, func(c *rawClient) {
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	g := start(t, "!denied.test\n"+allowLoopback, nil, func(o *Options) {
		lines := linelog.New(io.Discard, linelog.Options{})
		t.Cleanup(func() { lines.Close(time.Minute) })
		o.Access = accesslog.New(lines, func(b []byte, r *accesslog.Request) []byte {
			if rand.IntN(3) == 0 {
				panic("in the log")
			}
			return b
		})
	})
	left := g.Budget.Left()
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for i := range 150 {
				c := g.dial(t)
				id := fmt.Sprintf("<%d.%d>", k, i)
				switch rand.IntN(5) {
				case 0:
					io.WriteString(c, prefix)
					c.Read(make([]byte, 10))
				case 1:
					io.WriteString(c, prefix+prefix+prefix)
				case 2:
					io.WriteString(c, "GET http://"+web+"/ HTTP/1.1\r\nHost: x\r\n\r\n")
					c.Read(make([]byte, 10))
				default:
					ahead := []string{"", prefix}[rand.IntN(2)]
					io.WriteString(c, ahead+"CONNECT "+echo+" HTTP/1.1\r\n\r\n")
					if _, err := c.r.ReadString('\n'); err != nil {
						break
					}
					io.WriteString(c, strings.Repeat(id, 50))
					c.CloseWrite()
					all, _ := io.ReadAll(c.r)
					if strings.Contains(strings.ReplaceAll(string(all), id, ""), "<") {
						t.Errorf("bytes of another: %q", all)
					}
				}
				if rand.IntN(2) == 0 {
					c.SetLinger(0)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	nettest.Eventually(t, "nothing is open, and all is given back", func() bool {
		return g.door.Len() == 0 && left == g.Budget.Left()+int64(g.Gate.Pool.Len())
	})
}
