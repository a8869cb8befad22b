//go:build linux

package http

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// inside opens a tunnel and does the handshake with the gateway, as name.
func (o *inspected) inside(t testing.TB, connect, name string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	return o.insideAs(t, connect, name, "")
}

// insideAs does so with more fields in the CONNECT.
func (o *inspected) insideAs(t testing.TB, connect, name, fields string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	c := dialClient(t, o.outside)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", connect, connect, fields)
	require.Contains(t, readHead(t, c), " 200 ")
	host, _, err := net.SplitHostPort(connect)
	require.NoError(t, err)
	s := tls.Client(c, &tls.Config{ServerName: name, RootCAs: o.roots(t), MinVersion: tls.VersionTLS12, InsecureSkipVerify: name != host}) //nolint:gosec // what is judged is what comes inside
	require.NoError(t, s.Handshake())
	return s, bufio.NewReader(s)
}

// roots are the CA of the gateway alone.
func (o *inspected) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(o.CA)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	return roots
}

// basic are the credentials of a user (RFC 7617).
func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// answer is the status of the next answer, and its body.
func answer(t testing.TB, r *bufio.Reader) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// A protocol that is switched to inside carries bytes both ways.
func TestInspectUpgrade(t *testing.T) {
	o := newInspected(t, "\n  - {host: api.example.com, requests: 'GET /echo'}\n")
	c, r := o.inside(t, "api.example.com:443", "api.example.com")
	fmt.Fprint(c, "GET /echo HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	other, o2 := o.inside(t, "api.example.com:443", "api.example.com")
	fmt.Fprint(other, "GET /echo HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	status, body := answer(t, o2) // of the server, which has not seen it
	assert.Equal(t, 400, status)
	assert.Equal(t, "no upgrade\n", body)
	got := o.got()
	assert.Empty(t, got[len(got)-1].Header["Upgrade"])
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	go c.Write(large)
	back := make([]byte, len("early ")+len(large))
	_, err = io.ReadFull(r, back)
	require.NoError(t, err)
	assert.Equal(t, "early "+string(large), string(back))
}

// A client of WebSocket sends and gets what it likes where its path is allowed, and elsewhere is told why not.
func TestInspectWebSocket(t *testing.T) {
	needFile(t, "/usr/lib/python3/dist-packages/websocket", "python3-websocket")
	o := newInspected(t, "\n  - {host: api.example.com, requests: 'GET /ws'}\n")
	o.mux.Handle("/ws", websocket.Server{Handler: echoMessages}) // of any Origin
	client := func(path string) program.Output {
		return program.Command(t, o.Client, proxyEnv, "/usr/bin/python3", "testdata/clients/websocket_echo.py", o.CA, "wss://api.example.com"+path)
	}
	got := client("/ws")
	assert.Equal(t, "echoed 14 messages, closed False\n", got.Out, got.Err)
	got = client("/ws/admin")
	assert.Contains(t, got.Err, "Handshake status 403 Egress denied: no request rule allows it")
	assert.Empty(t, got.Out)
}

// echoMessages sends back each message as it has come, in text or not.
func echoMessages(c *websocket.Conn) {
	var kind byte
	as := websocket.Codec{
		Unmarshal: func(b []byte, is byte, v any) error {
			kind, *v.(*[]byte) = is, b
			return nil
		},
		Marshal: func(v any) ([]byte, byte, error) { return *v.(*[]byte), kind, nil },
	}
	for m := []byte(nil); as.Receive(c, &m) == nil && as.Send(c, &m) == nil; {
	}
}

// What comes inside in another form than a server's requests do, or under another name, goes
// nowhere; and the next connection is as good as the first.
func TestInspectAttacks(t *testing.T) {
	o := newInspected(t, "\n  - {host: api.example.com, requests: 'GET /v1/**'}\n")
	for name, c := range map[string]struct {
		name, request, want string
		status              int
	}{
		"absolute form":         {"api.example.com", "GET https://other.example.com/v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "origin form", 400},
		"absolute form of it":   {"api.example.com", "GET https://api.example.com/v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "origin form", 400},
		"CONNECT":               {"api.example.com", "CONNECT other.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "origin form", 400},
		"OPTIONS *":             {"api.example.com", "OPTIONS * HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "malformed path", 400},
		"CONNECT to an address": {"api.example.com", "CONNECT 203.0.113.10:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "origin form", 400},
		"plain http":            {"api.example.com", "GET http://203.0.113.10/v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "origin form", 400},
		"lower case":            {"api.example.com", "get /v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "capitals", 400},
		"a header by dots":      {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\nX.HTTP.Method.Override: DELETE\r\n\r\n", "overrides", 400},
		"a trailer":             {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Original-URL: /admin\r\n\r\n", "trailer", 400},
		"another Host":          {"api.example.com", "GET /v1/a?hidden HTTP/1.1\r\nHost: other.example.com\r\nReferer: https://hidden.test/\r\n\r\n", "Host and the name", 421},
		"another port":          {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com:8443\r\n\r\n", "Host and the name", 421},
		"no Host":               {"api.example.com", "GET /v1/a HTTP/1.0\r\n\r\n", "Host and the name", 421},
		"another name":          {"other.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "Host and the name", 421},
		"two Hosts":             {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\nHost: other.example.com\r\n\r\n", "", 400},
		"two framings":          {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n", "", 400},
		"encoded dots":          {"api.example.com", "GET /v1/%2e%2e/admin HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "a dot segment", 400},
		"overlong UTF-8":        {"api.example.com", "GET /v1/%c0%ae%c0%ae/admin HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "no UTF-8", 400},
		"encoded slash":         {"api.example.com", "GET /v1/..%2fadmin HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "a dot segment", 400},
		"two slashes":           {"api.example.com", "GET /v1//admin HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "empty segment", 403},
		"NUL":                   {"api.example.com", "GET /v1/%00 HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "control byte", 400},
		"a header of the path":  {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\nX-Original-URL: /admin\r\n\r\n", "overrides", 400},
		"the same by underline": {"api.example.com", "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\nX_Rewrite_URL: /admin\r\n\r\n", "overrides", 400},
	} {
		t.Run(name, func(t *testing.T) {
			o.got()
			s, r := o.inside(t, "api.example.com:443", c.name)
			fmt.Fprint(s, c.request)
			status, body := answer(t, r)
			assert.Equal(t, c.status, status, body)
			assert.Contains(t, body, c.want)
			assert.Empty(t, o.got())
		})
	}
	nettest.Eventually(t, "all is logged", func() bool { return strings.Contains(o.g.Stdout(), `"status":421`) })
	for _, line := range o.g.AccessLog() {
		assert.NotContains(t, line, "hidden", "nor of what was refused before it was judged")
		assert.NotContains(t, line, "api.example.com203", "another form of target is shown as it is")
	}
	s, r := o.inside(t, "api.example.com:443", "api.example.com")
	for range 3 {
		fmt.Fprint(s, "GET /v1/a HTTP/1.1\r\nHost: API.example.com:443\r\n\r\n")
		status, body := answer(t, r)
		require.Equal(t, 200, status)
		require.Contains(t, body, "server-a saw")
	}
	plain := dialClient(t, o.outside)
	fmt.Fprint(plain, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n")
	require.Contains(t, readHead(t, plain), " 200 ")
	fmt.Fprint(plain, "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
	said, err := io.ReadAll(plain)
	require.NoError(t, err)
	assert.Contains(t, string(said), "What is in a tunnel to this host must be TLS")
}

// By SOCKS 5 an inspected host is asked about as it is by CONNECT; and a tunnel to another name, or
// to an address, does not lead to it where tunnels are checked.
func TestInspectBySOCKS(t *testing.T) {
	o := newInspected(t, apiHosts, "--listen-socks", ":1080", "--tunnel-check", "enforce")
	socks := func(url string, args ...string) program.Output {
		return program.Command(t, o.Client, nil, "curl", append([]string{"--http1.1", "--silent", "--show-error", "--include", "--max-time", "60",
			"--proxy", "socks5h://" + nettest.PodV4 + ":1080", "--cacert", o.CA, url}, args...)...)
	}
	got := socks("https://api.example.com/repos/acme/x")
	assert.Contains(t, got.Out, "HTTP/1.1 200 OK", got.Err)
	got = socks("https://api.example.com/user/keys")
	assert.Contains(t, got.Out, "HTTP/1.1 403 Egress denied: request rule", got.Err)
	nettest.Eventually(t, "the tunnel is logged as what it is", func() bool {
		return strings.Contains(strings.Join(o.g.AccessLog(), "\n"), `"target":"api.example.com:443","protocol":"socks5","verdict":"allow"`)
	})
	for _, url := range []string{"http://api.example.com/user/keys", "http://api.example.com:22/", "https://api.example.com:8443/"} { // past the rules by another port
		got = socks(url)
		assert.NotEqual(t, 0, got.Status, got.Out)
		got = o.ask(t, "-p", url)
		assert.Contains(t, got.Out, " 403 Egress denied: requests to this host are asked what they may do", got.Err)
	}
	o.got()
	for _, other := range []string{"other.example.com", allowedHost} {
		s, err := o.tunnelAs(t, other+":443", "api.example.com")
		assert.Error(t, err, "%s %v", other, s)
	}
	assert.Empty(t, o.got())
}

// tunnelAs opens a tunnel to a target that is not inspected, and does a handshake with a server of
// that name.
func (o *inspected) tunnelAs(t testing.TB, connect, name string) (*tls.Conn, error) {
	t.Helper()
	c := dialClient(t, o.outside)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", connect, connect)
	require.Contains(t, readHead(t, c), " 200 ")
	s := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // whoever it is must not be reached
	return s, s.Handshake()
}

// A server whose certificate does not stand up is told of inside, by a certificate that does.
func TestInspectUntrusted(t *testing.T) {
	o := newInspected(t, "\n  - {host: 'api.example.com:8443-8447', requests: '*'}\n")
	evil := newAuthority(t)
	for port, config := range map[string]*tls.Config{
		"8443": evil.serverConfig("api.example.com"),
		"8444": o.outside.CA.serverConfig("other.example.com"),
		"8445": {Certificates: o.outside.CA.serverConfig("api.example.com").Certificates, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
		"8446": o.outside.CA.serverConfig("api.example.com"),
		"8447": {Certificates: o.outside.CA.serverConfig("api.example.com").Certificates, ClientAuth: tls.RequireAnyClientCert},
	} {
		serve(t, o.ServerA.Listen(net.JoinHostPort(nettest.ServerAV4, port)), config, witness("server"))
	}
	for port, want := range map[string]string{"8443": "502 Bad Gateway: TLS with api.example.com", "8444": "502 Bad Gateway: TLS with api.example.com",
		"8445": "502 Bad Gateway: TLS with api.example.com: remote error: tls: handshake failure; the server wants a certificate of its client", "8447": "502 Bad Gateway: the server wants a certificate of its client", "8446": "200 OK"} {
		got := o.ask(t, "https://api.example.com:"+port+"/")
		assert.Contains(t, got.Out, "\r\n\r\nHTTP/1.1 "+want, "%s %s", port, got.Err)
	}
}
