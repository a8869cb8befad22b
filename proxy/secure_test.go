package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

const builder = "spiffe://cluster.local/ns/shop/sa/builder"

// secured is a gateway that has a port for TLS, and the CA of its clients.
type secured struct {
	*gateway
	ca   *nettest.CA
	own  tls.Certificate
	addr string
}

func startTLS(t testing.TB, change func(*Options)) *secured {
	t.Helper()
	s := &secured{ca: nettest.NewCA(t)}
	s.own = s.ca.Issue("127.0.0.1")
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	s.addr = l.Addr().String()
	served := make(chan error, 1)
	t.Cleanup(func() { require.NoError(t, <-served) })
	s.gateway = start(t, allowLoopback, nil, change)
	s.SetKeys(terminate.NewKeys(s.own, s.ca.Pool))
	go func() { served <- s.ServeTLS(l) }()
	return s
}

// shop has a tenant that takes the certificates of a namespace; others are refused.
func (s *secured) shop(t testing.TB) {
	t.Helper()
	sel, err := auth.ParseSelector(auth.ByCertificate, "spiffe://cluster.local/ns/shop/sa/*")
	require.NoError(t, err)
	s.SetGeneration(policy.Set{
		Rest:    policy.Tenant{Name: policy.DefaultName, Unclaimed: true},
		Tenants: []policy.Taker{{Tenant: policy.Tenant{Name: "shop", Rules: s.ruleset(t, allowLoopback)}, Shown: []auth.Selector{sel}}},
	}.Generation())
}

// tlsClient speaks bytes inside TLS.
type tlsClient struct {
	*tls.Conn
	*rawClient
	tcp *net.TCPConn
}

func (s *secured) tls(t testing.TB, certs ...tls.Certificate) *tlsClient {
	t.Helper()
	raw, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	require.NoError(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
	c := tls.Client(raw, &tls.Config{RootCAs: s.ca.Pool, ServerName: "127.0.0.1", Certificates: certs, ClientSessionCache: tls.NewLRUClientSessionCache(1)})
	return &tlsClient{Conn: c, rawClient: &rawClient{r: bufio.NewReader(c)}, tcp: raw.(*net.TCPConn)}
}

func (c *tlsClient) send(t testing.TB, format string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(c.Conn, format, args...)
	require.NoError(t, err)
}

func (c *tlsClient) get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	c.send(t, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", url)
	res, body := c.response(t, "GET")
	return res.StatusCode, body
}

// tunnelTo opens a tunnel.
func (c *tlsClient) tunnelTo(t testing.TB, addr string) {
	t.Helper()
	c.send(t, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", addr)
	require.Contains(t, c.head(t), " 200 ")
}

// A certificate says whose the requests of its connection are, on it alone, and until it ends
// or its CA is trusted no more.
func TestClientCertificate(t *testing.T) {
	web := origin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 100_000)) })
	s := startTLS(t, nil)
	s.shop(t)
	good := s.ca.Issue(builder)

	c := s.tls(t, good)
	for range 3 {
		status, body := c.get(t, web.URL)
		assert.Equal(t, 200, status)
		assert.Len(t, body, 100_000)
	}
	status, _ := s.tls(t).get(t, web.URL)
	assert.Equal(t, 403, status, "without one")
	status, _ = s.tls(t, s.ca.Issue("spiffe://cluster.local/ns/other/sa/builder")).get(t, web.URL)
	assert.Equal(t, 403, status, "another's")
	for i, line := range s.lines(t, 5) {
		assert.Equal(t, i < 3, strings.Contains(line, `"tenant":"shop","user":"`+builder+`"`), line)
	}

	short := s.tls(t, s.ca.IssueUntil(time.Now().Add(2*time.Second), builder))
	status, _ = short.get(t, web.URL)
	assert.Equal(t, 200, status)
	nettest.Eventually(t, "the certificate has ended", func() bool {
		status, _ := short.get(t, web.URL)
		return status == 403
	})

	c.tunnelTo(t, web.Listener.Addr().String()) // stays: it was admitted
	d := s.tls(t, good)
	status, _ = d.get(t, web.URL)
	assert.Equal(t, 200, status)
	s.SetKeys(terminate.NewKeys(s.own, s.ca.Pool))
	status, _ = d.get(t, web.URL)
	assert.Equal(t, 200, status, "the same CA as before")
	s.SetKeys(terminate.NewKeys(s.own, nettest.NewCA(t).Pool))
	status, _ = d.get(t, web.URL)
	assert.Equal(t, 403, status, "another CA")
	s.SetKeys(terminate.NewKeys(s.own, nil))
	status, _ = d.get(t, web.URL)
	assert.Equal(t, 403, status, "no CA")
}

// A certificate of a CA that is not trusted ends the handshake; so does none of TLS, with a
// word for who has taken the port for the other.
func TestHandshakeFails(t *testing.T) {
	s := startTLS(t, func(o *Options) { o.HeadTimeout = time.Second })
	stranger := s.tls(t, nettest.NewCA(t).Issue(builder))
	_, err := stranger.Conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if err == nil {
		_, err = stranger.Conn.Read(make([]byte, 1))
	}
	assert.ErrorContains(t, err, "remote error: tls: bad certificate")

	many := s.ca.Issue(builder) // and more behind it than anybody needs, which cost much to follow
	for range 5 {
		many.Certificate = append(many.Certificate, many.Certificate[0])
	}
	_, err = s.tls(t, many).Conn.Write([]byte("x"))
	nettest.Eventually(t, "five at most are looked at", func() bool {
		if err == nil {
			_, err = s.tls(t, many).Conn.Read(make([]byte, 1))
		}
		return err != nil && strings.Contains(err.Error(), "remote error: tls: bad certificate")
	})

	plain := s.tls(t)
	fmt.Fprint(plain.tcp, "GET http://example.com/ HTTP/1.1\r\n\r\n")
	b, err := io.ReadAll(plain.tcp)
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"+
		"This port of the proxy is for TLS: write https:// in front of its name, or use the port for plain clients.\n", string(b))

	silent := s.tls(t)
	b, err = io.ReadAll(silent.tcp)
	assert.True(t, err == nil || isReset(err), "%v", err)
	assert.Empty(t, b, "of one who says nothing, after the time for a head")
	nettest.Eventually(t, "all have left", func() bool { return s.door.Len() == 0 && s.Budget.Left() == 1000 })
}

func isReset(err error) bool { return strings.Contains(err.Error(), unix.ECONNRESET.Error()) }

// Whoever comes to the end of no handshake gives way to those who do.
func TestHandshakesGiveWay(t *testing.T) {
	const places = 10
	web := origin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	for name, change := range map[string]func(*Options){
		"places":      func(o *Options) { o.MaxConns = places },
		"descriptors": func(o *Options) { o.Budget = fdbudget.New(4*places + 3) },
	} {
		t.Run(name, func(t *testing.T) {
			s := startTLS(t, change)
			for range places {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.9")}}
				c, err := d.Dial("tcp", s.addr)
				require.NoError(t, err)
				t.Cleanup(func() { c.Close() })
			}
			nettest.Eventually(t, "all places are taken", func() bool { return s.door.Len() == places })
			status, body := s.tls(t).get(t, web.URL)
			assert.Equal(t, 200, status)
			assert.Equal(t, "ok", body)
		})
	}
}

// Ends come across: half closed as such, whole as such, and what is cut is no end.
func TestEndsByTLS(t *testing.T) {
	seen := make(chan string, 10)
	server := rawOrigin(t, func(c *rawClient) {
		b, err := io.ReadAll(c.r)
		if err != nil {
			seen <- "reset"
			return
		}
		seen <- "end after " + string(b)
		fmt.Fprint(c.TCPConn, "bye")
	})
	cutting := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\n\r\nhalf of it")
		c.SetLinger(0)
	})
	t.Run("half closed", func(t *testing.T) {
		c := startTLS(t, nil).tls(t)
		c.tunnelTo(t, server)
		c.send(t, "hello")
		require.NoError(t, c.CloseWrite())
		assert.Equal(t, "end after hello", <-seen)
		b, err := io.ReadAll(c.r)
		require.NoError(t, err)
		assert.Equal(t, "bye", string(b))
		_, err = c.tcp.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err, "the connection is closed, too")
	})
	t.Run("without close_notify", func(t *testing.T) {
		c := startTLS(t, nil).tls(t)
		c.tunnelTo(t, server)
		c.send(t, "hello")
		require.NoError(t, c.tcp.CloseWrite())
		assert.Equal(t, "reset", <-seen)
	})
	t.Run("reset by the client", func(t *testing.T) {
		c := startTLS(t, nil).tls(t)
		c.tunnelTo(t, server)
		c.tcp.SetLinger(0)
		c.tcp.Close()
		assert.Equal(t, "reset", <-seen)
	})
	t.Run("cut by the server", func(t *testing.T) {
		c := startTLS(t, nil).tls(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", cutting)
		c.head(t)
		_, err := io.ReadAll(c.r)
		require.Error(t, err, "no close_notify")
	})
}

// A client that takes nothing is cut as one without TLS is, and leaves nothing behind.
func TestStuckByTLS(t *testing.T) {
	flood := rawOrigin(t, func(c *rawClient) {
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	s := startTLS(t, func(o *Options) { o.IdleTimeout = time.Second })
	c := s.tls(t)
	c.tunnelTo(t, flood)
	nettest.Eventually(t, "it is cut", func() bool { return s.door.Len() == 0 })
	c.tcp.Close()
	nettest.Eventually(t, "nobody is there any more", func() bool { return s.terminator.Len() == 0 })
}

// The gateway is nobody's client, whoever it says that it speaks for.
func TestOwnAddressAnnouncesNobody(t *testing.T) {
	s := startTLS(t, func(o *Options) { o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	own := netip.MustParseAddr("192.0.2.77")
	s.ProxyFrom = append(s.ProxyFrom, netip.PrefixFrom(own, own.BitLen()))
	s.SetGeneration(policy.Set{Rest: policy.Tenant{Rules: s.ruleset(t, allowLoopback)}, Own: []netip.Addr{own}}.Generation())
	assert.False(t, s.announces(own))
	assert.True(t, s.announces(netip.MustParseAddr("127.0.0.1")))
}

// Behind a CONNECT that is refused comes no request, also not in a record of its own.
func TestRefusedConnectByTLS(t *testing.T) {
	s := startTLS(t, nil)
	c := s.tls(t)
	c.send(t, "CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	c.send(t, "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n")
	res, _ := c.response(t, "CONNECT")
	assert.Equal(t, 403, res.StatusCode)
	assert.True(t, res.Close)
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Empty(t, string(b))
}

// Much goes both ways at once, and comes whole.
func TestBulkByTLS(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	c := startTLS(t, nil).tls(t)
	c.tunnelTo(t, echo)
	const size = 20 << 20
	go func() {
		b := make([]byte, 100_003)
		for sent := 0; sent < size; sent += len(b) {
			b = b[:min(len(b), size-sent)]
			for i := range b {
				b[i] = byte((sent + i) % 251)
			}
			if _, err := c.Conn.Write(b); err != nil {
				return
			}
		}
		c.Conn.CloseWrite()
	}()
	got, b := 0, make([]byte, 64<<10)
	for {
		n, err := c.r.Read(b)
		for i := range n {
			if b[i] != byte((got+i)%251) {
				t.Fatalf("byte %d is wrong", got+i)
			}
		}
		if got += n; err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
	}
	assert.Equal(t, size, got)
}

// A balancer says who the client is; nobody else can, and it must.
func TestProxyHeaderOnTheProxyPort(t *testing.T) {
	web := origin(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-For")) })
	const v1 = "PROXY TCP4 192.0.2.7 192.0.2.1 4000 8080\r\n"
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\xc0\x00\x02\x07\xc0\x00\x02\x01\x0f\xa0\x1f\x90"
	local := "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	s := startTLS(t, func(o *Options) {
		o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix(clientOfA + "/32")}
		o.ForwardedFor = true
	})
	for _, c := range []struct {
		verdict, from, head string
		tls                 bool
	}{
		{"200 192.0.2.7", clientOfA, v1, false},
		{"200 192.0.2.7", clientOfA, v2, false},
		{"200 " + clientOfA, clientOfA, local, false},
		{"200 " + clientOfA, clientOfA, "PROXY UNKNOWN\r\n", false},
		{"200 192.0.2.7", clientOfA, v1, true},
		{"200 192.0.2.7", clientOfA, v2, true},
		{"200 " + clientOfB, clientOfB, "", false},
		{"400 a PROXY protocol header must come first from this address, which is among --proxy-protocol-from", clientOfA, "", false},
		{"400 a second PROXY protocol header", clientOfA, v1 + v1, false},
		{"400 the PROXY protocol header cannot be read", clientOfA, "PROXY TCP4 0.0.0.0 192.0.2.1 4000 8080\r\n", false},
		{"400 the PROXY protocol header cannot be read", clientOfA, "PROXY TCP4 224.0.0.1 192.0.2.1 4000 8080\r\n", false},
		{"400 A PROXY protocol header, and this address is not among --proxy-protocol-from", clientOfB, v1, true},
		{"400 A PROXY protocol header, and this address is not among --proxy-protocol-from", clientOfB, v2, true},
		{"400 the PROXY protocol header cannot be read", clientOfA, "PROXY TCP4 192.0.2.7 x 4000 8080\r\n", false},
		{"400 the PROXY protocol header cannot be read", clientOfA, "PROXY TCP4 " + strings.Repeat("9", 100), false},
		{"400 a PROXY protocol header, and this address is not among --proxy-protocol-from", clientOfB, v1, false},
		{"400 a PROXY protocol header, and this address is not among --proxy-protocol-from", clientOfB, v2, false},
	} {
		t.Run(fmt.Sprintf("%s %q %v", c.verdict, c.head, c.tls), func(t *testing.T) {
			for _, whole := range []bool{true, false} {
				to := s.Addr
				if c.tls {
					to = s.addr
				}
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
				tcp, err := d.Dial("tcp", to)
				require.NoError(t, err)
				defer tcp.Close()
				tcp.SetDeadline(time.Now().Add(20 * time.Second))
				conn, request := tcp, "GET "+web.URL+" HTTP/1.1\r\nHost: x\r\n\r\n"
				switch {
				case c.tls && strings.HasPrefix(c.verdict, "400"):
					io.WriteString(tcp, c.head)
				case c.tls:
					io.WriteString(tcp, c.head)
					conn = tls.Client(tcp, &tls.Config{RootCAs: s.ca.Pool, ServerName: "127.0.0.1"})
					io.WriteString(conn, request)
				case whole:
					io.WriteString(tcp, c.head+request)
				default:
					for _, b := range []byte(c.head + request) {
						tcp.Write([]byte{b})
					}
				}
				r := &rawClient{r: bufio.NewReader(conn)}
				res, body := r.response(t, "GET")
				body = strings.Replace(body, "sluice: 400 Bad Request\n\nBecause:      ", "", 1)
				assert.Contains(t, fmt.Sprintf("%d %s", res.StatusCode, body), c.verdict)
			}
		})
	}
}

// What a client may have counts for who it is, not for the balancer that all come through.
func TestLimitsBehindABalancer(t *testing.T) {
	s := startTLS(t, func(o *Options) { o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	s.tenant.Limits.ConnsPerClient = 2
	s.gateway.rules(t, allowLoopback)
	open := func(client string) *rawClient {
		c := s.dial(t)
		c.send(t, "PROXY TCP4 %s 192.0.2.1 4000 8080\r\nGET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n", client)
		return c
	}
	status := func(c *rawClient) int {
		res, _ := c.response(t, "GET")
		return res.StatusCode
	}
	first := open("192.0.2.1")
	assert.Equal(t, 502, status(first))
	assert.Equal(t, 502, status(open("192.0.2.1")))
	assert.Equal(t, 429, status(open("192.0.2.1")), "a third one")
	assert.Equal(t, 502, status(open("192.0.2.2")), "another's")
	first.Close()
	nettest.Eventually(t, "there is room again", func() bool { return status(open("192.0.2.1")) == 502 })
}
