package tcp

import (
	"bufio"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// Whoever opens all places and does not say where to gives way to others; sessions that have
// come to their destination do not.
func TestWhoGivesWay(t *testing.T) {
	const places = 10
	for _, limit := range []string{"places", "descriptors"} {
		t.Run(limit, func(t *testing.T) {
			r := start(t, func(o *Options) {
				if limit == "descriptors" {
					o.Budget = fdbudget.New(2 * places)
				}
			})
			if limit == "places" {
				r.config.MaxConns = places
			}
			l := listener(t, serve(t, "127.0.0.1:0", echo).addr.String())
			l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			r.must(l)
			dial := func(from string) net.Conn {
				t.Helper()
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
				c, err := d.Dial("tcp", r.Status()[0].Addr.String())
				require.NoError(t, err)
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(20 * time.Second))
				return c
			}
			reading := func() (n int) {
				for _, o := range r.Open() {
					if o.State == door.Waiting {
						n++
					}
				}
				return n
			}
			word := func(c net.Conn, head, word string) {
				t.Helper()
				_, err := c.Write([]byte(head + word + "\n"))
				require.NoError(t, err)
				got, err := bufio.NewReader(c).ReadString('\n')
				require.NoError(t, err)
				assert.Equal(t, word+"\n", got)
			}
			const head = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"
			old := dial("127.0.0.2")
			word(old, head, "first")
			for range places - 1 {
				dial("127.0.0.3")
			}
			nettest.Eventually(t, "all places are taken", func() bool { return reading() == places-1 })
			for range 3 {
				word(dial("127.0.0.4"), head, "let in")
			}
			word(old, "", "still there")
			assert.Equal(t, places-1-3, reading())
		})
	}
}
