package tcp

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/accesslog"
)

// told serves connections that begin with a PROXY header, and answers with what
// the header said and the bytes behind it.
func told(t testing.TB) *server {
	return serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		h, err := proxyproto.Read(br)
		if err != nil {
			io.WriteString(c, "no header: "+err.Error())
			return
		}
		rest, _ := io.ReadAll(br)
		version := map[byte]string{1: "v1", 2: "v2"}[h.Version]
		if h.Command.IsLocal() {
			io.WriteString(c, version+" local "+string(rest))
			return
		}
		io.WriteString(c, version+" "+h.SourceAddr.String()+" > "+h.DestinationAddr.String()+" "+string(rest))
	})
}

func TestSendProxy(t *testing.T) {
	r := start(t)
	s := told(t)
	for version, name := range map[int]string{1: "v1", 2: "v2"} {
		l := listener(t, s.addr.String())
		l.SendProxy = version
		r.must(l)
		c := r.connect(0)
		io.WriteString(c, "hello")
		c.CloseWrite()
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Equal(t, name+" "+c.LocalAddr().String()+" > "+c.RemoteAddr().String()+" hello", string(got))
	}
	assert.EqualValues(t, 5, r.last(1).Received, "the header is not the client's")
}

// The client of the header is the client: for the log, for the next header and
// for the choice of an address. The bytes behind it go on, however they come.
func TestAcceptProxy(t *testing.T) {
	r := start(t)
	s := told(t)
	l := listener(t, s.addr.String())
	l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	l.SendProxy = 2
	r.must(l)
	v2 := func(src, dst string) string {
		h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(src)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dst)))
		require.NoError(t, h.SetTLVs([]proxyproto.TLV{{Type: 0x30, Value: []byte("ns")}}))
		b, err := h.Format()
		require.NoError(t, err)
		return string(b)
	}
	for _, tt := range []struct{ header, want, client string }{
		{"PROXY TCP4 192.0.2.1 203.0.113.9 1234 443\r\n", "v2 192.0.2.1:1234 > 203.0.113.9:443 hello", "192.0.2.1:1234"},
		{"PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n", "v2 [2001:db8::1]:1234 > [2001:db8::2]:443 hello", "[2001:db8::1]:1234"},
		{v2("192.0.2.1:1234", "203.0.113.9:443"), "v2 192.0.2.1:1234 > 203.0.113.9:443 hello", "192.0.2.1:1234"},
		{v2("[2001:db8::1]:1", "[2001:db8::2]:2"), "v2 [2001:db8::1]:1 > [2001:db8::2]:2 hello", "[2001:db8::1]:1"},
		{"PROXY UNKNOWN\r\n", "v2 127.0.0.1:", "127.0.0.1:"},
		{"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "v2 127.0.0.1:", "127.0.0.1:"}, // LOCAL: a check of the load balancer's
	} {
		for _, pieces := range []bool{false, true} {
			c := r.connect(0)
			text := tt.header + "hello"
			if pieces {
				c.SetNoDelay(true)
				for _, b := range []byte(text) {
					_, err := c.Write([]byte{b})
					require.NoError(t, err)
				}
			} else {
				io.WriteString(c, text)
			}
			c.CloseWrite()
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Contains(t, string(got), tt.want)
			require.True(t, strings.HasSuffix(string(got), " hello"), string(got))
		}
	}
	n := 0
	for _, header := range []string{"hello, I am no header\r\n", "PROXY TCP4 nonsense\r\n", "PROXY " + strings.Repeat("x", 200),
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "\r\n\r\n\x00\r\nQUIX", "GET / HTTP/1.1\r\n\r\n", "P"} {
		c := r.connect(0)
		io.WriteString(c, header)
		c.CloseWrite()
		got, _ := io.ReadAll(c)
		require.Empty(t, got, header)
		n++
	}
	r.logged(n, func(rec accesslog.Connection) bool { return rec.Refused == "proxy_header" })
	r.logged(6, func(rec accesslog.Connection) bool {
		return rec.Client != rec.Peer && rec.End == "closed" && rec.Client.Port() == 1234
	})
}

// A client that is not on the list is taken as it is; a header of its own means
// nothing here.
func TestAcceptProxyFromOthers(t *testing.T) {
	r := start(t)
	s := told(t)
	l := listener(t, s.addr.String())
	l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	l.SendProxy = 1
	r.must(l)
	c := r.connect(0)
	io.WriteString(c, "PROXY TCP4 192.0.2.1 203.0.113.9 1 2\r\n")
	c.CloseWrite()
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "v1 "+c.LocalAddr().String()+" > "+c.RemoteAddr().String()+" PROXY TCP4 192.0.2.1 203.0.113.9 1 2\r\n", string(got))
}

// A client that is silent where it must speak is refused after a while.
func TestHeadTimeout(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", echo)
	l := listener(t, s.addr.String())
	l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	r.config.HeadTimeout = 20 * time.Millisecond
	r.must(l)
	c := r.connect(0)
	io.WriteString(c, "PROXY ")
	_, err := io.ReadAll(c)
	require.Error(t, err)
	assert.Equal(t, "proxy_header", r.last(1).Refused)
	assert.Zero(t, s.accepted())
}

// certificate is good for anything.
func certificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secure serves TLS and answers with a word and the server name it was asked for.
func secure(t testing.TB, cert tls.Certificate, word string) string {
	s := serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		if tc.Handshake() == nil {
			io.WriteString(tc, word+" "+tc.ConnectionState().ServerName)
			tc.CloseWrite()
			io.Copy(io.Discard, tc)
		}
	})
	return s.addr.String()
}

// pieces writes a byte at a time.
type pieces struct{ *net.TCPConn }

func (p pieces) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := p.TCPConn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// records writes each handshake record as many records of a few bytes.
type records struct{ *net.TCPConn }

func (r records) Write(b []byte) (int, error) {
	n := len(b)
	var out []byte
	for len(b) > 5 && b[0] == 22 && len(out) == 0 { // the first record only
		size := int(b[3])<<8 | int(b[4])
		body := b[5 : 5+size]
		for len(body) > 0 {
			k := min(7, len(body))
			out = append(append(out, 22, b[1], b[2], 0, byte(k)), body[:k]...)
			body = body[k:]
		}
		b = b[5+size:]
	}
	_, err := r.TCPConn.Write(append(out, b...))
	return n, err
}

// One port, several destinations by server name, nothing decrypted.
func TestServerNames(t *testing.T) {
	r := start(t)
	cert := certificate(t)
	exact, wild, other := secure(t, cert, "exact"), secure(t, cert, "wild"), secure(t, cert, "default")
	l := listener(t, other)
	l.Routes = []Route{
		{[]string{"a.example.com", "*.a.example.com"}, listener(t, exact).Destinations},
		{[]string{"*.example.com"}, listener(t, wild).Destinations},
	}
	r.must(l)
	ask := func(conn net.Conn, name string) (string, error) {
		tc := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		b, err := io.ReadAll(tc)
		conn.Close()
		return string(b), err
	}
	for _, tt := range []struct{ name, want string }{
		{"a.example.com", "exact a.example.com"},
		{"A.Example.COM", "exact A.Example.COM"},
		{"x.a.example.com", "exact x.a.example.com"},
		{"b.example.com", "wild b.example.com"},
		{"x.y.example.com", "wild x.y.example.com"},
		{"example.com", "wild example.com"}, // as *.example.com in rules
		{"notexample.com", "default notexample.com"},
		{"com", "default com"},
		{"", "default "},
		{"192.0.2.1", "default "}, // no SNI for addresses
	} {
		for kind, wrap := range map[string]func(*net.TCPConn) net.Conn{
			"whole":           func(c *net.TCPConn) net.Conn { return c },
			"byte by byte":    func(c *net.TCPConn) net.Conn { return pieces{c} },
			"in many records": func(c *net.TCPConn) net.Conn { return records{c} },
		} {
			got, err := ask(wrap(r.connect(0)), tt.name)
			require.NoError(t, err, "%s %s", kind, tt.name)
			require.Equal(t, strings.ToLower(tt.want), strings.ToLower(got), kind)
		}
	}
	r.logged(3*2, func(rec accesslog.Connection) bool { return rec.ServerName == "a.example.com" })

	l.Destinations = nil
	r.must(l)
	_, err := ask(r.connect(0), "other.test")
	require.Error(t, err)
	r.logged(1, func(rec accesslog.Connection) bool {
		return rec.Refused == "server_name" && rec.ServerName == "other.test"
	})
	got, err := ask(r.connect(0), "a.example.com")
	require.NoError(t, err)
	assert.Equal(t, "exact a.example.com", got)
	// What is no TLS is refused at once, what never ends too.
	for _, text := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x40\x00\x01\x00\xff\xf0" + strings.Repeat("x", 70000)} {
		c := r.connect(0)
		c.Write([]byte(text))
		_, err := io.ReadAll(c)
		require.Error(t, err)
	}
	r.logged(3, func(rec accesslog.Connection) bool { return rec.Refused == "server_name" })
}

// A PROXY header in front of a ClientHello.
func TestProxyThenServerName(t *testing.T) {
	r := start(t)
	to := secure(t, certificate(t), "here")
	l := listener(t)
	l.Routes = []Route{{[]string{"a.test"}, listener(t, to).Destinations}}
	l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	r.must(l)
	c := r.connect(0)
	io.WriteString(c, "PROXY TCP4 192.0.2.1 203.0.113.9 1234 443\r\n")
	tc := tls.Client(c, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
	b, err := io.ReadAll(tc)
	require.NoError(t, err)
	assert.Equal(t, "here a.test", string(b))
	tc.Close()
	assert.Equal(t, "192.0.2.1:1234", r.last(1).Client.String())
}
