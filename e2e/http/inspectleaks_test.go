//go:build linux

package http

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// secondSecret is the credential of another inspected host.
const secondSecret = "glpat-second-0123456789"

// A client that follows a redirect takes no credential along: it never had one, and the gateway puts
// it into requests to its own host alone. Nor does it come by other ways to ask.
func TestInspectCredentialStays(t *testing.T) {
	second := filepath.Join(t.TempDir(), "second")
	require.NoError(t, os.WriteFile(second, []byte(secondSecret), 0o600))
	o := newInspected(t, "\n  - host: api.example.com\n    requests: \"*\"\n    headers: {Authorization: {file: TOKEN, prefix: \"Bearer \"}}\n"+
		"  - host: second.example.com\n    requests: \"*\"\n    headers: {Authorization: {file: "+second+"}}\n")
	o.DNS.Set("second.example.com", nettest.Addrs(nettest.ServerAV4))
	o.DNS.Set("evil.example.net", nettest.Addrs(nettest.ServerBV4))
	evil := listenTo(t, o.ServerB.Listen(net.JoinHostPort(nettest.ServerBV4, "443")), o.outside.CA.serverConfig("evil.example.net"))
	o.mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.RawQuery, http.StatusTemporaryRedirect)
	})
	o.mux.HandleFunc("/echo-body", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.Header.Get("Authorization")) })
	both := filepath.Join(t.TempDir(), "both")
	for _, file := range []string{o.CA, o.outside.CA.File} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all, _ := os.ReadFile(both)
		o.write(t, both, string(all)+string(text))
	}
	last := func(args ...string) (status string, saw string) {
		o.got()
		out := o.ask(t, append([]string{"--location-trusted", "--cacert", both}, args...)...)
		assert.NotContains(t, out.Out+out.Err, secret, "%s", args)
		got := o.got()
		require.NotEmpty(t, got, out.Out+out.Err)
		last := got[len(got)-1]
		return lastStatus(strings.ReplaceAll(out.Out, "HTTP/2 ", "HTTP/1.1 ")), last.Host + " " + last.Header.Get("Authorization")
	}
	for to, want := range map[string][2]string{
		"https://evil.example.net/":         {"403 Egress denied: no rule allows it", "api.example.com Bearer " + secret}, // which is the first request
		"https://other.example.com/any":     {"200 ", "other.example.com "},                                               // not inspected
		"http://other.example.com/any":      {"200 OK", "other.example.com "},
		"https://second.example.com/any":    {"200 OK", "second.example.com " + secondSecret},
		"http://api.example.com/any":        {"403 Egress denied: credentials are put in for this host, which go by TLS only; ask for https", "api.example.com Bearer " + secret},
		"https://api.example.com:8443/any":  {"403 Egress denied: requests to this host are asked what they may do, and a tunnel to another port would go past that: name the port in hosts of", "api.example.com Bearer " + secret},
		"https://api.example.com/elsewhere": {"200 OK", "api.example.com Bearer " + secret},
	} {
		status, saw := last("https://api.example.com/to?" + to)
		assert.Contains(t, status, want[0], to)
		assert.Equal(t, want[1], saw, to)
	}
	// Of the client's own it takes none to whom the credential is for, and what it names in a field it keeps.
	_, saw := last("-H", "Authorization: mine", "https://other.example.com/")
	assert.Equal(t, "other.example.com mine", saw)
	out := o.ask(t, "-H", "Host: second.example.com", "https://api.example.com/")
	assert.Contains(t, lastStatus(out.Out), "421 ")
	out = o.ask(t, "-X", "TRACE", "https://api.example.com/")
	assert.Contains(t, lastStatus(out.Out), "403 Egress denied: TRACE is never sent on")
	// What cannot be kept: the documentation says so.
	assert.Contains(t, o.ask(t, "https://api.example.com/echo-body").Out, secret)
	assert.Empty(t, evil())
}

// What a server sends behind an answer is nobody's answer, and a head that could be read in two
// ways is none.
func TestInspectResponseSplitting(t *testing.T) {
	o := newInspected(t, "\n  - {host: 'api.example.com:9000', requests: '*'}\n")
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	raw := map[string]string{
		"/two":       ok + "\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"/longer":    ok + "\r\nok and evil",
		"/cr":        ok + "X-A: b\rX-Evil: 1\r\n\r\nok",
		"/nul":       ok + "X-A: b\x00c\r\n\r\nok",
		"/folded":    ok + "X-A: b\r\n evil: 1\r\n\r\nok",
		"/lengths":   ok + "Content-Length: 7\r\n\r\nokevil!",
		"/framings":  ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"/space":     ok + "X-A : b\r\n\r\nok",
		"/lf":        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"/reason":    "HTTP/1.1 200 OK\rX-Evil: 1\r\nContent-Length: 2\r\n\r\nok",
		"/switching": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
	}
	serveRaw(t, o.ServerA.Listen(net.JoinHostPort(nettest.ServerAV4, "9000")), o.outside.CA.serverConfig("api.example.com"), raw)
	passed := map[string]bool{"/two": true, "/longer": true, "/space": true} // the space goes (RFC 9112 section 5.1), or Go would not read it
	for path := range raw {
		t.Run(path, func(t *testing.T) {
			s, r := o.inside(t, "api.example.com:9000", "api.example.com")
			ask := func(path string) (*http.Response, string) {
				fmt.Fprintf(s, "GET %s HTTP/1.1\r\nHost: api.example.com:9000\r\n\r\n", path)
				resp, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				return resp, string(body)
			}
			resp, body := ask(path)
			assert.Empty(t, resp.Header["X-Evil"])
			if !passed[path] {
				assert.Equal(t, 502, resp.StatusCode, "%s %s", resp.Status, body)
				return
			}
			assert.Equal(t, "ok", body)
			for range 2 { // the same client's, and another's by the same pool
				_, body = ask("/good")
				assert.Equal(t, "good", body)
				s, r = o.inside(t, "api.example.com:9000", "api.example.com")
			}
		})
	}
}

// serveRaw answers requests inside TLS with the bytes that stand for their path, and any other with "good".
func serveRaw(t testing.TB, l net.Listener, config *tls.Config, raw map[string]string) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, config)
				r := bufio.NewReader(s)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					text, ok := raw[req.URL.Path]
					if !ok {
						text = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
					}
					_, _ = io.WriteString(s, text)
				}
			}()
		}
	}()
}

// A tunnel to an address leads past the request rules of an inspected host nowhere where tunnels are checked; where they are
// not it does, without a credential, as docs/inspect.md says.
func TestInspectByAddress(t *testing.T) {
	for _, check := range []string{"enforce", "off"} {
		t.Run(check, func(t *testing.T) {
			o := newInspected(t, apiHosts, "--tunnel-check", check)
			for _, to := range []string{nettest.ServerAV4, "[" + nettest.ServerAV6 + "]"} {
				c := dialClient(t, o.outside)
				fmt.Fprintf(c, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n\r\n", to)
				assert.Contains(t, readHead(t, c), "HTTP/1.1 403 Egress denied: no rule allows it", "as long as no rule says otherwise")
			}
			config, err := os.ReadFile(o.g.File)
			require.NoError(t, err)
			o.write(t, o.g.File, strings.Replace(string(config), `rules: "*.example.com"`, `rules: "*"`, 1))
			o.reload(t)
			o.got()
			s, err := o.tunnelAs(t, nettest.ServerAV4+":443", "api.example.com")
			require.NoError(t, err)
			fmt.Fprint(s, "GET /user/keys HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
			status, _ := answer(t, bufio.NewReader(s))
			if check == "enforce" {
				assert.Equal(t, 403, status, "it is opened, and the request asked what it may do")
				assert.Empty(t, o.got())
				return
			}
			assert.Equal(t, 200, status)
			assert.Empty(t, o.got()[0].Header["Authorization"])
		})
	}
}

// A client cannot begin the handshake again inside, and does no harm by trying.
func TestInspectRenegotiation(t *testing.T) {
	nettest.Need(t, "openssl")
	o := newInspected(t, apiHosts)
	cmd := exec.Command("openssl", "s_client", "-proxy", nettest.PodV4+":8080", "-connect", "api.example.com:443", "-servername", "api.example.com", "-CAfile", o.CA, "-tls1_2")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	var said lockedBuilder
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, o.Client.Start(cmd))
	nettest.Eventually(t, "the handshake is over", func() bool { return strings.Contains(said.String(), "Verify return code: 0 (ok)") })
	_, err = io.WriteString(in, "R\n")
	require.NoError(t, err)
	assert.Error(t, cmd.Wait(), "it ends by itself: its input is open")
	assert.Contains(t, said.String(), "RENEGOTIATING")
	_, after, _ := strings.Cut(said.String(), "RENEGOTIATING")
	assert.Contains(t, after, "alert unexpected message")
	assert.Contains(t, o.ask(t, "https://api.example.com/repos/acme/x").Out, "HTTP/1.1 200 OK")
}

// A hello that hides its name (ECH) leads nowhere: the gateway has no key of it, so that the outer name
// is the client's, and what is then asked for must be that.
func TestInspectECH(t *testing.T) {
	o := newInspected(t, apiHosts)
	for outer, shown := range map[string]bool{"api.example.com": true, "cover.example.com": false} {
		c := dialClient(t, o.outside)
		fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		require.Contains(t, readHead(t, c), " 200 ")
		s := tls.Client(c, &tls.Config{ServerName: "api.example.com", RootCAs: o.roots(t), EncryptedClientHelloConfigList: nettest.ECHConfigs(t, outer)})
		_, rejected := errors.AsType[*tls.ECHRejectionError](s.Handshake())
		assert.Equal(t, shown, rejected, "the certificate is that of the name that was asked for, and of no other")
	}
	assert.Empty(t, o.got())
	assert.Contains(t, o.ask(t, "https://api.example.com/repos/acme/x").Out, "HTTP/1.1 200 OK")
}

// lockedBuilder takes what a process says while it runs.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
