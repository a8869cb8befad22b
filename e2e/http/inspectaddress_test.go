//go:build linux

package http

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const addressHosts = apiHosts + `
  - host: api.example.com:8443
    requests: "*"
    headers:
      Authorization: {file: TOKEN, prefix: "Bearer "}
`

// rules puts other rules in force.
func (o *inspected) rules(t *testing.T, rules string) {
	t.Helper()
	config, err := os.ReadFile(o.g.File)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(config), "inspect:\n")
	const reloads = `sluice_config_reloads_total{result="success"}`
	was := o.g.Metric(reloads)
	o.write(t, o.g.File, "rules: |\n  "+strings.ReplaceAll(strings.TrimSpace(rules), "\n", "\n  ")+"\ninspect:\n"+rest)
	o.g.Signal(syscall.SIGHUP)
	nettest.Eventually(t, "the rules are in force", func() bool { return o.g.Metric(reloads) != was })
}

// shakes makes a tunnel to an address and shakes hands in it, by that name.
func (o *inspected) shakes(t *testing.T, target, name string, write func(net.Conn) net.Conn) (*tls.Conn, *bufio.Reader, error) {
	t.Helper()
	c := dialClient(t, o.outside)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	require.Contains(t, readHead(t, c), " 200 ")
	s := tls.Client(write(c), &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // who signs is looked at
	err := s.Handshake()
	return s, bufio.NewReader(s), err
}

func asItIs(c net.Conn) net.Conn { return c }

// opened reports whether the gateway has signed what the client was shown.
func opened(s *tls.Conn) bool {
	return s.ConnectionState().PeerCertificates[0].Issuer.CommonName == "test"
}

// byteByByte writes so.
type byteByByte struct{ net.Conn }

func (c byteByByte) Write(b []byte) (n int, err error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// A tunnel to an address whose ClientHello names an inspected host is decided and opened as that
// host, and leads to that address alone.
func TestInspectOpenedByAddress(t *testing.T) {
	for _, mode := range []string{"log", "enforce"} {
		t.Run(mode, func(t *testing.T) {
			o := newInspected(t, addressHosts, "--tunnel-check", mode)
			o.DNS.Set("api.example.com", nettest.Addrs(nettest.FarV4))
			o.rules(t, "*.example.com\n"+nettest.ServerAV4)
			const address = nettest.ServerAV4 + ":443"
			for i, write := range []func(net.Conn) net.Conn{asItIs, func(c net.Conn) net.Conn { return byteByByte{c} }} {
				s, r, err := o.shakes(t, address, "api.example.com", write)
				require.NoError(t, err)
				require.True(t, opened(s))
				for _, c := range []struct {
					path, host, want string
					status           int
				}{
					{"/user/keys", "api.example.com", "request rule", 403},
					{"/repos/acme/x", "api.example.com", "", 200},
					{"/repos/acme/x", []string{nettest.ServerAV4, "other.example.com"}[i], "Host and the name in the handshake", 421}, // the last
				} {
					fmt.Fprintf(s, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", c.path, c.host)
					status, body := answer(t, r)
					assert.Equal(t, c.status, status, body)
					assert.Contains(t, body, c.want)
				}
				if seen := o.got(); assert.Len(t, seen, 1) {
					assert.Equal(t, "Bearer "+secret, seen[0].Header.Get("Authorization"))
				}
				s.Close()
			}
			assert.Zero(t, o.DNS.Asked("api.example.com"), "it leads to the address that was asked for")
			nettest.Eventually(t, "the line names both", func() bool {
				for _, line := range o.g.AccessLog() {
					if strings.Contains(line, `"method":"CONNECT","target":"`+address+`"`) && strings.Contains(line, `"details":"opened as api.example.com:443`) &&
						strings.Contains(line, `"address":"`+address+`"`) {
						return true
					}
				}
				return false
			})

			s, _, err := o.shakes(t, address, "other.example.com", asItIs) // which is not inspected
			require.NoError(t, err)
			assert.False(t, opened(s))
			s.Close()
		})
	}
}

// What is not allowed by the name is not opened, and a server that cannot prove the name gets nothing.
func TestInspectOpenedByAddressAttacks(t *testing.T) {
	o := newInspected(t, addressHosts, "--tunnel-check", "enforce")
	own := nettest.NewCA(t).Issue("api.example.com")
	l := o.ServerB.Listen(nettest.Bracketed(nettest.ServerBV4) + ":8443")
	defer l.Close()
	got := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}}) //nolint:gosec // an attacker's
				b := make([]byte, 1<<10)
				if n, _ := s.Read(b); n > 0 {
					got <- string(b[:n])
				}
			}()
		}
	}()
	o.rules(t, "*.example.com\n"+nettest.ServerAV4+"\n"+nettest.ServerBV4+":8443 #@ protocol=tls")
	s, r, err := o.shakes(t, nettest.ServerBV4+":8443", "api.example.com", asItIs)
	require.NoError(t, err)
	require.True(t, opened(s))
	fmt.Fprint(s, "GET / HTTP/1.1\r\nHost: api.example.com:8443\r\n\r\n")
	status, body := answer(t, r)
	assert.Equal(t, 502, status, body)
	assert.Contains(t, body, "certificate")
	s.Close()
	assert.Empty(t, got, "nothing was sent to who has not proved the name")

	o.rules(t, "!api.example.com\n*.example.com\n"+nettest.ServerAV4)
	_, _, err = o.shakes(t, nettest.ServerAV4+":443", "api.example.com", asItIs)
	assert.ErrorContains(t, err, "access denied")
	nettest.Eventually(t, "the line says why", func() bool {
		return strings.Contains(o.g.Stdout(), "api.example.com:443 is not allowed at "+nettest.ServerAV4)
	})
	o.rules(t, "*.example.com\n!"+nettest.ServerAV4)
	c := dialClient(t, o.outside)
	fmt.Fprintf(c, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n\r\n", nettest.ServerAV4)
	assert.Contains(t, readHead(t, c), "HTTP/1.1 403 ", "an address that is denied is not opened, whatever is named")
	assert.Empty(t, o.got())
}
