package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// socksGateway is a gateway that also listens for SOCKS.
type socksGateway struct {
	*gateway
	socks string
}

func startSocks(t testing.TB, rules string, known names, change func(*Options)) *socksGateway {
	g := start(t, rules, known, change)
	return &socksGateway{g, g.listenSOCKS(t)}
}

// listenSOCKS serves clients of SOCKS until the gateway is shut down.
func (g *gateway) listenSOCKS(t testing.TB) (addr string) {
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	go func() { assert.NoError(t, g.ServeSOCKS(l)) }()
	return l.Addr().String()
}

func (g *socksGateway) dial(t testing.TB) *net.TCPConn {
	c, err := net.Dial("tcp", g.socks)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c.(*net.TCPConn)
}

// Messages of clients.
const (
	greets = "\x05\x01\x00"     // no login
	logs   = "\x05\x02\x00\x02" // or one
	ok     = "\x05\x00"
	made   = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
)

// asksFor is a request for a name, or for an address by name.
func asksFor(hostport string) string {
	at := strings.LastIndexByte(hostport, ':')
	host, n := hostport[:at], 0
	fmt.Sscan(hostport[at+1:], &n)
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case err != nil:
		return "\x05\x01\x00\x03" + string([]byte{byte(len(host))}) + host + string([]byte{byte(n >> 8), byte(n)})
	case a.Is4():
		return "\x05\x01\x00\x01" + string(a.AsSlice()) + string([]byte{byte(n >> 8), byte(n)})
	}
	return "\x05\x01\x00\x04" + string(a.AsSlice()) + string([]byte{byte(n >> 8), byte(n)})
}

func login(user, password string) string {
	return "\x01" + string(rune(len(user))) + user + string(rune(len(password))) + password
}

// hears requires that the client is told exactly so.
func hears(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	require.NoError(t, err, "%q", got[:n])
	require.Equal(t, want, string(got))
}

func says(t testing.TB, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
}

func reply(code int) string { return made[:1] + string(rune(code)) + made[2:] }

// Everything that a client may send together, and everything in pieces, comes to the same: the
// bytes go through, early ones too, and the log and the metrics say what they say of a CONNECT.
func TestSocks(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn); c.CloseWrite() })
	_, port, _ := net.SplitHostPort(echo)
	loopback := netip.MustParseAddr("127.0.0.1")
	g := startSocks(t, "echo.test\n"+allowLoopback, names{"echo.test": {loopback}}, nil)
	n := 0
	for _, target := range []string{echo, "echo.test:" + port} {
		steps := []string{greets, ok, asksFor(target), made, "a word", "a word"}
		for name, send := range map[string]func(c net.Conn){
			"in turn": func(c net.Conn) {
				for i := 0; i < len(steps); i += 2 {
					says(t, c, steps[i])
					hears(t, c, steps[i+1])
				}
			},
			"in one": func(c net.Conn) {
				says(t, c, steps[0]+steps[2]+steps[4])
				hears(t, c, steps[1]+steps[3]+steps[5])
			},
			"early bytes behind the request": func(c net.Conn) {
				says(t, c, steps[0])
				hears(t, c, steps[1])
				says(t, c, steps[2]+steps[4])
				hears(t, c, steps[3]+steps[5])
			},
			"greeting and request in one": func(c net.Conn) {
				says(t, c, steps[0]+steps[2])
				hears(t, c, steps[1]+steps[3])
				says(t, c, steps[4])
				hears(t, c, steps[5])
			},
			"byte by byte": func(c net.Conn) {
				for _, b := range []byte(steps[0] + steps[2] + steps[4]) {
					says(t, c, string([]byte{b}))
				}
				hears(t, c, steps[1]+steps[3]+steps[5])
			},
		} {
			t.Run(name+" to "+target, func(t *testing.T) {
				c := g.dial(t)
				send(c)
				require.NoError(t, c.CloseWrite())
				rest, err := io.ReadAll(c)
				require.NoError(t, err)
				require.Empty(t, rest)
				n++
				line := g.lines(t, n)[n-1]
				assert.Contains(t, line, `"method":"CONNECT","target":"`+target+`","protocol":"socks5","verdict":"allow"`)
				assert.Contains(t, line, `"status":200,"received":6,"sent":6,`)
			})
		}
	}
	assert.Equal(t, [2]float64{60, 60}, g.bytes(t, "socks5"))
}

// Every cut of a whole dialogue in two is served alike.
func TestSocksCutAnywhere(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn); c.CloseWrite() })
	g := startSocks(t, allowLoopback, nil, nil)
	g.authenticate(t, policy.Optional)
	all := logs + login("deploy", "secret") + asksFor(echo) + "early"
	for at := range all {
		c := g.dial(t)
		says(t, c, all[:at])
		if at >= len(logs) {
			hears(t, c, "\x05\x02")
		}
		says(t, c, all[at:])
		want := "\x05\x02\x01\x00" + made + "early"
		if at >= len(logs) {
			want = want[2:]
		}
		hears(t, c, want)
		c.Close()
	}
	g.lines(t, len(all))
	assert.Equal(t, len(all), strings.Count(g.log.String(), `"user":"deploy"`))
}

// Who has sent all that it has to say is answered by one segment, and the next client of the same
// place by its own words alone. Who has not is answered at once.
func TestSocksInOneSegment(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn); c.CloseWrite() })
	g := startSocks(t, "!denied.test\n"+allowLoopback, nil, nil)
	g.authenticate(t, policy.Optional)
	shows, shown := login("deploy", "secret"), "\x05\x02\x01\x00"
	first := g.dial(t) // its verdict is known from then on
	says(t, first, logs+shows+asksFor(echo))
	hears(t, first, shown+made)
	for range 3 {
		for _, tt := range []struct {
			say, hear string
			segments  uint32
		}{
			{greets + asksFor(echo), ok + made, 1},
			{logs + shows + asksFor(echo), shown + made, 1},
			{logs + shows, shown, 1},
			{greets + asksFor("denied.test:80"), ok + reply(2), 1},
			{logs + shows + asksFor("other.test:80"), shown + reply(2), 1},
			{greets + "\x05\x01", ok, 1},
			{greets + asksFor(echo) + "early", ok + made + "early", 3},
		} {
			c := g.dial(t)
			says(t, c, tt.say)
			hears(t, c, tt.hear)
			assert.LessOrEqual(t, segmentsOf(t, c), tt.segments, "%q", tt.say)
			c.Close()
		}
	}
}

// segmentsOf counts those with data that have come.
func segmentsOf(t testing.TB, c *net.TCPConn) (n uint32) {
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		require.NoError(t, err)
		n = info.Data_segs_in
	}))
	return n
}

// authenticate has clients show who they are: deploy, by "secret".
func (g *gateway) authenticate(t testing.TB, mode policy.Mode) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	users, err := auth.ParseUsers("users", "deploy:"+string(hash)+"\n")
	require.NoError(t, err)
	only, err := acl.Parse("only.deploy.test\n!other.test\n" + allowLoopback)
	require.NoError(t, err)
	user, err := auth.ParseSelector(auth.ByUser, "deploy")
	require.NoError(t, err)
	set := policy.Set{Rest: g.tenant, Authentication: policy.Authentication{Mode: mode, Users: users},
		Tenants: []policy.Taker{{Tenant: policy.Tenant{Name: "deploys", Rules: only}, Shown: []auth.Selector{user}}}}
	if g.Gate.Verifier == nil {
		g.Gate.Verifier = auth.New(auth.Options{})
		t.Cleanup(g.Gate.Verifier.Close)
	}
	g.SetGeneration(set.Generation())
}

// Who a client is: by RFC 1929, and only when it is asked for.
func TestSocksLogin(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn); c.CloseWrite() })
	_, port, _ := net.SplitHostPort(echo)
	deploys := asksFor("only.deploy.test:" + port)
	const taken, good, bad, none = "\x05\x02", "\x01\x00", "\x01\x01", "\x05\xff"
	both, only := logs, "\x05\x01\x02"
	for name, tt := range map[string]struct {
		mode policy.Mode
		say  []string // and what is heard
		log  string
	}{
		"off, none offered":             {policy.Off, []string{greets, ok, asksFor(echo), made}, `"status":200`},
		"off, both offered":             {policy.Off, []string{both, ok, asksFor(echo), made}, `"status":200`},
		"off, a login alone":            {policy.Off, []string{only, taken, login("who", "ever"), good, asksFor(echo), made}, `"status":200`},
		"off, GSSAPI alone":             {policy.Off, []string{"\x05\x01\x01", none}, `"status":407`},
		"optional, none offered":        {policy.Optional, []string{greets, ok, asksFor(echo), made}, `"status":200`},
		"optional, shown":               {policy.Optional, []string{both, taken, login("deploy", "secret"), good, deploys, made}, `"tenant":"deploys","user":"deploy"`},
		"optional, wrong":               {policy.Optional, []string{both, taken, login("deploy", "wrong"), bad}, `"status":407`},
		"optional, denied without":      {policy.Optional, []string{greets, ok, deploys, reply(2)}, `"status":407`},
		"required, shown":               {policy.Required, []string{only, taken, login("deploy", "secret"), good, deploys, made}, `"user":"deploy"`},
		"required, denied all the same": {policy.Required, []string{only, taken, login("deploy", "secret"), good, asksFor("other.test:80"), reply(2)}, `"status":403`},
		"required, none offered":        {policy.Required, []string{greets, none}, `"status":407`},
		"required, no user":             {policy.Required, []string{only, taken, login("", ""), bad}, `"status":407`},
		"required, a colon in it":       {policy.Required, []string{only, taken, login("deploy:secret", "x"), bad}, `"status":407`},
		"required, a NUL in it":         {policy.Required, []string{only, taken, login("deploy", "secret\x00"), bad}, `"status":407`},
		"required, another version":     {policy.Required, []string{only, taken, "\x05\x01\x00\x01", bad}, `"status":400`},
	} {
		t.Run(name, func(t *testing.T) {
			g := startSocks(t, "!only.deploy.test\n"+allowLoopback, names{"only.deploy.test": {loopback}}, nil)
			g.authenticate(t, tt.mode)
			for life := range 2 { // the second finds the verdict known, and is served on the loop
				c := g.dial(t)
				for i := 0; i < len(tt.say); i += 2 {
					says(t, c, tt.say[i])
					hears(t, c, tt.say[i+1])
				}
				if last := tt.say[len(tt.say)-1]; last == made {
					says(t, c, "word")
					hears(t, c, "word")
				} else {
					rest, err := io.ReadAll(c)
					require.NoError(t, err, "the client is told and not reset")
					require.Empty(t, rest)
				}
				c.Close()
				line := g.lines(t, life+1)[life]
				assert.Contains(t, line, tt.log)
				assert.NotContains(t, g.log.String(), "secret")
			}
		})
	}
}

// Each way of having no connection has its reply, and its class in the log.
func TestSocksRefusals(t *testing.T) {
	fails := map[string]error{
		"192.0.2.3:80": syscall.ENETUNREACH, "192.0.2.4:80": syscall.EHOSTUNREACH, "192.0.2.5:80": syscall.ECONNREFUSED,
		"[2001:db8::1]:80": syscall.ECONNREFUSED, "192.0.2.6:80": os.ErrDeadlineExceeded, "192.0.2.7:80": syscall.EMFILE, "192.0.2.8:80": errors.New("for no reason"),
	}
	g := startSocks(t, "!denied.test\n!192.0.2.66\n*", nil, func(o *Options) {
		lookup := func(_ context.Context, name string) ([]netip.Addr, error) {
			if name == "slow.test" {
				return nil, &resolve.Error{Name: name, Kind: resolve.Timeout}
			}
			return nil, &resolve.Error{Name: name, Kind: resolve.NotFound, Code: "NXDOMAIN"}
		}
		o.Gate = outbound.NewGate(lookup, func(_ context.Context, _ netip.Addr, dst netip.AddrPort) (*sock.Conn, error) {
			return nil, fails[dst.String()]
		}, outbound.NewPool(o.Budget, time.Minute))
	})
	for say, want := range map[string]struct {
		reply int
		log   string
	}{
		asksFor("denied.test:80"):             {2, `"verdict":"deny","reason":"line 1 !denied.test"`},
		asksFor("127.0.0.1:80"):               {2, `"verdict":"deny"`},
		asksFor("192.0.2.66:80"):              {2, `"verdict":"deny"`},
		asksFor("[2001:db8::1]:80"):           {5, `"target":"[2001:db8::1]:80"`},
		asksFor("none.test:80"):               {4, `"error":"dns_error"`},
		asksFor("slow.test:80"):               {4, `"error":"dns_timeout"`},
		asksFor("192.0.2.3:80"):               {3, `"error":"destination_ip_unroutable"`},
		asksFor("192.0.2.4:80"):               {4, `"error":"destination_ip_unroutable"`},
		asksFor("192.0.2.5:80"):               {5, `"status":502,"`},
		asksFor("192.0.2.6:80"):               {6, `"error":"connection_timeout"`},
		asksFor("192.0.2.7:80"):               {1, `"error":"connection_limit_reached"`},
		asksFor("192.0.2.8:80"):               {1, `"error":"connection_terminated"`},
		asksFor("192.0.2.1:0"):                {1, `"error":"http_request_error"`},
		asksFor("a.test:80:80"):               {1, `"error":"http_request_error"`},
		asksFor("user@a.test:80"):             {1, `"error":"http_request_error"`},
		asksFor("a b:80"):                     {1, `"error":"http_request_error"`},
		asksFor("a.test\x00.denied.test:80"):  {1, `"error":"http_request_error"`},
		"\x05\x02" + asksFor("a.test:80")[2:]: {7, `"method":"BIND","target":"a.test:80"`},
		"\x05\x03" + asksFor("0.0.0.0:0")[2:]: {7, `"details":"UDP ASSOCIATE is not served"`},
		"\x05\x09" + asksFor("a.test:80")[2:]: {7, `"status":400`},
		"\x05\x01\x00\x02abcd\x00\x50":        {8, `"status":400`},
		"\x05\x01\x07\x01abcd\x00\x50":        {1, `"details":"a SOCKS request whose reserved byte is not 0"`},
	} {
		t.Run(fmt.Sprintf("%q", say), func(t *testing.T) {
			before := strings.Count(g.log.String(), "\n")
			c := g.dial(t)
			says(t, c, greets)
			hears(t, c, ok)
			says(t, c, say)
			hears(t, c, reply(want.reply))
			rest, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Empty(t, rest)
			assert.Contains(t, g.lines(t, before+1)[before], want.log)
			assert.Contains(t, g.lines(t, before+1)[before], `"protocol":"socks5"`)
		})
	}
	assert.False(t, g.wasAsked("denied.test"))
}

// What is no SOCKS 5 is told so, or closed; nobody is served who begins with something else.
func TestSocksOtherProtocols(t *testing.T) {
	g := startSocks(t, "*", nil, nil)
	for i, say := range []string{"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "\x16\x03\x01\x00\x10", "\x04\x01\x00\x50abcd\x00", "\r\n" + greets, "\x05\x00"} {
		c := g.dial(t)
		says(t, c, say)
		hears(t, c, "\x05\xff")
		rest, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Empty(t, rest)
		assert.Contains(t, g.lines(t, i+1)[i], `"error":"http_request_error"`)
	}
}

// A client that says nothing whole in time is told so, and one that says nothing is closed.
func TestSocksTooSlow(t *testing.T) {
	g := startSocks(t, "*", nil, func(o *Options) { o.HeadTimeout = 300 * time.Millisecond })
	for say, want := range map[string]string{"": "", "\x05": "\x05\xff", greets: ok, greets + "\x05\x01": ok + reply(1)} {
		c := g.dial(t)
		says(t, c, say)
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Equal(t, want, string(all), "%q", say)
	}
}

// The limits of the door are those of HTTP's too.
func TestSocksLimits(t *testing.T) {
	g := startSocks(t, "*", nil, func(o *Options) { o.MaxConns = 2 })
	g.tenant.Limits.ConnsPerClient = 1
	g.rules(t, "*")
	http := g.gateway.dial(t)
	nettest.Eventually(t, "it is in", func() bool { return g.door.Len() == 1 })
	c := g.dial(t)
	hears(t, c, "\x05\xff")
	_, err := io.ReadAll(c)
	require.NoError(t, err)
	http.Close()
}

// A PROXY header goes before the greeting, and says who the client is.
func TestSocksBehindBalancer(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	g := startSocks(t, allowLoopback, nil, func(o *Options) {
		o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	c := g.dial(t)
	says(t, c, "PROXY TCP4 192.0.2.7 127.0.0.1 40000 1080\r\n"+greets)
	hears(t, c, ok)
	says(t, c, asksFor(echo))
	hears(t, c, made)
	c.Close()
	assert.Contains(t, g.lines(t, 1)[0], `"client":"192.0.2.7:40000"`)
	c = g.dial(t)
	says(t, c, greets)
	hears(t, c, "\x05\xff")
	assert.Contains(t, g.lines(t, 2)[1], "PROXY protocol header must come first")
}

// What a reload does not admit any more ends, and what drains ends when it is done.
func TestSocksRevokedAndDrained(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	g := startSocks(t, allowLoopback, nil, nil)
	c := g.dial(t)
	says(t, c, greets+asksFor(echo))
	hears(t, c, ok+made)
	nettest.Eventually(t, "it is listed", func() bool {
		open := g.Open()
		return len(open) == 1 && open[0].State == door.Tunnel && open[0].Target.String() == echo
	})
	g.rules(t, "a.test")
	assert.Equal(t, 1, g.Revoke())
	_, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Contains(t, g.lines(t, 1)[0], `"error":"http_request_denied"`)

	g.rules(t, allowLoopback)
	waits, half := g.dial(t), g.dial(t)
	says(t, half, greets)
	hears(t, half, ok)
	nettest.Eventually(t, "both are in", func() bool { return g.door.Len() == 2 })
	done := make(chan struct{})
	go func() { g.Shutdown(t.Context()); close(done) }()
	nettest.Eventually(t, "it drains", g.door.Draining)
	says(t, half, asksFor(echo)+"word") // it was on its way
	hears(t, half, made+"word")
	_, err = io.ReadAll(waits)
	require.NoError(t, err)
	half.Close()
	<-done
}

// A client that goes while its server is connected to leaves nothing behind.
func TestSocksClientGone(t *testing.T) {
	dead, _ := nettest.FullQueue(t)
	g := startSocks(t, allowLoopback, nil, func(o *Options) { o.ConnectTimeout = time.Hour })
	c := g.dial(t)
	says(t, c, greets)
	hears(t, c, ok)
	says(t, c, asksFor(dead.String()))
	nettest.Eventually(t, "it is being connected", func() bool {
		open := g.Open()
		return len(open) == 1 && open[0].State == door.Request
	})
	c.SetLinger(0)
	c.Close()
	assert.Contains(t, g.lines(t, 1)[0], `"error":"client_aborted"`)
	nettest.Eventually(t, "its descriptors are free", func() bool { return g.Budget.Left() == 1000 })
}

// Checks hold here too: see TestOneAdmission. The gateway is nobody's client.
func TestSocksOneAdmission(t *testing.T) {
	g := startSocks(t, allowLoopback, nil, func(o *Options) { o.Gate.Checks = []outbound.Check{refuseUnwanted} })
	for _, say := range []string{greets + asksFor("127.0.0.1:9"), greets + asksFor("127.0.0.1:9") + "early"} {
		c, err := dialFrom(t, unwanted.String(), g.socks)
		require.NoError(t, err)
		says(t, c, say)
		hears(t, c, ok+reply(2))
	}
}

// What the place of a client is used again for knows nothing of that one, by whichever of the
// two ways either has come.
func TestSocksReuse(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn); c.CloseWrite() })
	g := startSocks(t, allowLoopback, nil, nil)
	for i := range 200 {
		word := bytes.Repeat([]byte{byte(i)}, 1+i)
		if i%2 == 0 {
			c := g.dial(t)
			says(t, c, greets)
			hears(t, c, ok)
			says(t, c, asksFor(echo))
			hears(t, c, made)
			says(t, c, string(word))
			hears(t, c, string(word))
			c.Close()
			continue
		}
		c := g.gateway.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
		require.Contains(t, c.head(t), " 200 ")
		_, err := c.Write(word)
		require.NoError(t, err)
		got := make([]byte, len(word))
		_, err = io.ReadFull(c.r, got)
		require.NoError(t, err)
		require.Equal(t, word, got)
		c.Close()
	}
	assert.Equal(t, 100, strings.Count(strings.Join(g.lines(t, 200), "\n"), `"protocol":"socks5"`))
}
