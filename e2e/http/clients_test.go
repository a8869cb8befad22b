//go:build linux

package http

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// proxyEnv tells clients of the proxy, as a pod specification would.
var proxyEnv = []string{"http_proxy=" + proxyURL, "https_proxy=" + proxyURL}

const (
	allowedHost = "allowed.example.com"
	deniedHost  = "denied.example.com"
	denial      = "Egress denied: line 1 !" + deniedHost
)

// content is what the server of the clients' tests has under /file.
var content = strings.Repeat("0123456789abcdef", 4096)

// newSite is the outside with a server that does what clients ask for under
// allowed.example.com, and the program in the egress pod. Handlers may be added.
func newSite(t testing.TB) (*outside, *http.ServeMux) {
	t.Helper()
	o, mux := newServers(t)
	o.gateway(t, "!"+deniedHost+"\n*.example.com\n")
	return o, mux
}

// newServers is newSite without the program. around, if given, sees all requests before the
// handlers do.
func newServers(t testing.TB, around ...func(http.Handler) http.Handler) (*outside, *http.ServeMux) {
	t.Helper()
	o := &outside{Topology: nettest.NewTopology(t), CA: newAuthority(t)}
	o.DNS = o.Topology.DNS(t)
	for _, name := range []string{allowedHost, deniedHost} {
		o.DNS.Set(name, nettest.Addrs(nettest.ServerAV4, nettest.ServerAV6))
	}
	mux := http.NewServeMux()
	mux.Handle("/", witness("server-a"))
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.txt", time.Unix(1e9, 0), strings.NewReader(content))
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%s %d %x %v\n", r.Proto, n, sum.Sum(nil), err)
	})
	mux.HandleFunc("/echo", upgradeEcho)
	var handler http.Handler = mux
	for _, f := range around {
		handler = f(handler)
	}
	o.serveAt(t, o.ServerA, handler, nettest.ServerAV4, nettest.ServerAV6)
	return o, mux
}

// upgradeEcho switches to a protocol that sends back what it gets.
func upgradeEcho(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "no upgrade", http.StatusBadRequest)
		return
	}
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(c, buf)
}

func TestCurl(t *testing.T) {
	o, _ := newSite(t)
	upload := filepath.Join(t.TempDir(), "upload")
	require.NoError(t, os.WriteFile(upload, []byte(content), 0o600))
	sum := fmt.Sprintf("%d %x <nil>", len(content), sha256.Sum256([]byte(content)))
	for _, scheme := range []string{"http://", "https://"} {
		at := scheme + allowedHost
		for name, c := range map[string]struct {
			args []string
			want []string // in the output, in this order
		}{
			"GET":       {[]string{at + "/"}, []string{" 200", "server-a saw " + nettest.SourceV6 + "\n"}},
			"HEAD":      {[]string{"--head", at + "/file"}, []string{" 200", "ontent-", "65536\r\n"}},
			"range":     {[]string{"--range", "16-31", at + "/file"}, []string{" 206", "ontent-", "bytes 16-31/65536\r\n", "\r\n\r\n0123456789abcdef"}},
			"not there": {[]string{"--fail", at + "/file", "--range", "99999-"}, []string{" 416"}},
			"unchanged": {[]string{"--time-cond", "Mon, 10 Sep 2001 00:00:00 GMT", at + "/file"}, []string{" 304"}},
			"upload":    {[]string{"--upload-file", upload, at + "/upload"}, []string{" 200", sum}},
			"expect": {
				[]string{"--http1.1", "--header", "Expect: 100-continue", "--expect100-timeout", "60", "--data-binary", "@" + upload, at + "/upload"},
				[]string{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200", "HTTP/1.1 " + sum},
			},
			"chunked upload": {
				[]string{"--http1.1", "--header", "Transfer-Encoding: chunked", "--upload-file", upload, at + "/upload"},
				[]string{" 200", "HTTP/1.1 " + sum},
			},
			"twice on one connection": {[]string{at + "/", at + "/"}, []string{"saw " + nettest.SourceV6, "saw " + nettest.SourceV6}},
		} {
			t.Run(scheme+name, func(t *testing.T) {
				got := o.curl(t, c.args...)
				rest := got.Out
				for _, w := range c.want {
					_, after, ok := strings.Cut(rest, w)
					require.True(t, ok, "want %q in\n%.2000s\n%s", w, rest, got.Err)
					rest = after
				}
			})
		}
	}
}

func TestCurlHTTP2ThroughTunnel(t *testing.T) {
	o, _ := newSite(t)
	got := o.curl(t, "--http2", "https://"+allowedHost+"/upload", "--data", "x")
	assert.Contains(t, got.Out, "HTTP/2.0 1 ", got.Err)
}

// Denials reach the user of each client, fast, with their reason where the client
// shows any.
func TestDenialReachesTheUser(t *testing.T) {
	o, _ := newSite(t)
	for _, c := range []struct {
		client  string
		args    []string
		message string // for http; https has it where the client shows it
		tunnel  string
	}{
		{"curl", []string{"-sSv"}, "HTTP/1.1 403 " + denial, "HTTP/1.1 403 " + denial},
		{"wget", []string{"-O-", "--tries=1"}, "ERROR 403: " + denial, "Proxy tunneling failed: " + denial},
	} {
		for scheme, message := range map[string]string{"http://": c.message, "https://": c.tunnel} {
			got := program.Command(t, o.Client, proxyEnv, c.client, append(c.args, scheme+deniedHost+"/")...)
			assert.Contains(t, got.Err, message, c.client)
			assert.Less(t, got.Took, 5*time.Second, c.client) // wget waits a minute when there is no answer
		}
	}
}

// Proxy from the environment, and the CA where each client looks for it.
func TestClientsByEnvironment(t *testing.T) {
	o, _ := newSite(t)
	const saw = "server-a saw " + nettest.SourceV6
	for _, c := range []struct {
		client string
		env    []string
		args   []string
	}{
		{"curl", []string{"CURL_CA_BUNDLE=" + o.CA.File}, []string{"-sS"}},
		{"wget", nil, []string{"-qO-", "--ca-certificate", o.CA.File}},
		{"/usr/bin/python3", []string{"SSL_CERT_FILE=" + o.CA.File}, []string{"-c", pythonGet}},
	} {
		for _, scheme := range []string{"http://", "https://"} {
			t.Run(filepath.Base(c.client)+" "+scheme, func(t *testing.T) {
				got := program.Command(t, o.Client, append(c.env, proxyEnv...), c.client, append(c.args, scheme+allowedHost+"/")...)
				assert.Equal(t, saw, strings.TrimSpace(got.Out), got.Err)
			})
		}
	}
}

const pythonGet = `import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode())`

func TestPythonShowsTheDenial(t *testing.T) {
	o, _ := newSite(t)
	for scheme, want := range map[string]string{
		"http://":  "urllib.error.HTTPError: HTTP Error 403: " + denial,
		"https://": "OSError: Tunnel connection failed: 403 " + denial,
	} {
		got := program.Command(t, o.Client, proxyEnv, "/usr/bin/python3", "-c", pythonGet, scheme+deniedHost+"/")
		assert.Contains(t, got.Err, want)
	}
}

// What ssh's ProxyCommand is made of: a tunnel of any protocol.
func TestSocatTunnel(t *testing.T) {
	o, _ := newSite(t)
	nettest.Need(t, "socat")
	l := o.ServerA.Listen(nettest.ServerAV4 + ":22")
	o.DNS.Set("ssh.example.com", nettest.Addrs(nettest.ServerAV4))
	serveBanner(t, l, "SSH-2.0-test\r\n")
	const pod = nettest.PodV4
	got := program.Command(t, o.Client, nil, "socat", "-T30", "-u", "PROXY:"+pod+":ssh.example.com:22,proxyport=8080", "STDOUT")
	assert.Equal(t, "SSH-2.0-test\r\n", got.Out, got.Err)
	got = program.Command(t, o.Client, nil, "socat", "-u", "PROXY:"+pod+":"+deniedHost+":22,proxyport=8080", "STDOUT")
	assert.Contains(t, got.Err, denial)
}

// serveBanner speaks first, as ssh, smtp and others do, and hangs up.
func serveBanner(t testing.TB, l net.Listener, banner string) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, banner)
			_ = c.Close()
		}
	}()
}

func TestUpgradeBothWays(t *testing.T) {
	o, _ := newSite(t)
	// As some libraries do it: Upgrade in a request to the proxy itself.
	c := dialClient(t, o)
	speak(t, c, "GET http://"+allowedHost+"/echo HTTP/1.1\r\nHost: "+allowedHost+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	// As browsers do it: in a tunnel.
	d := dialClient(t, o)
	_, err := io.WriteString(d, "CONNECT "+allowedHost+":80 HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	require.Regexp(t, "^HTTP/1.1 200 ", readHead(t, d))
	speak(t, d, "GET /echo HTTP/1.1\r\nHost: "+allowedHost+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
}

func dialClient(t testing.TB, o *outside) net.Conn {
	t.Helper()
	c, err := o.Client.DialContext(context.Background(), "tcp", nettest.PodV4+":8080")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// readHead reads an answer's head and nothing behind it.
func readHead(t testing.TB, c net.Conn) string {
	t.Helper()
	head := make([]byte, 0, 512)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		head = head[:len(head)+1]
		_, err := io.ReadFull(c, head[len(head)-1:])
		require.NoError(t, err, "after %q", head)
	}
	return string(head)
}

// speak sends the head with what comes early, then more, and wants both back.
func speak(t testing.TB, c net.Conn, head string) {
	t.Helper()
	_, err := io.WriteString(c, head)
	require.NoError(t, err)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	_, err = io.WriteString(c, "and late")
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "early and late", string(got))
}

func TestGoClient(t *testing.T) {
	o, _ := newSite(t)
	pem, err := os.ReadFile(o.CA.File)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	dials := 0
	tr := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: nettest.PodV4 + ":8080"}),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return o.Client.DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: time.Minute}
	get := func(url string) (int, string) {
		resp, err := c.Get(url)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	for range 2 { // a denial does not cost the connection
		status, body := get("http://" + deniedHost + "/")
		assert.Equal(t, 403, status)
		assert.Contains(t, body, "Decided by:   line 1 !"+deniedHost+"\n")
		status, body = get("http://" + allowedHost + "/")
		assert.Equal(t, 200, status)
		assert.Equal(t, "server-a saw "+nettest.SourceV6+"\n", body)
	}
	assert.Equal(t, 1, dials, "one connection for four requests")
	_, body := get("https://" + allowedHost + "/")
	assert.Equal(t, "server-a saw "+nettest.SourceV6+"\n", body)
	_, err = c.Get("https://" + deniedHost + "/")
	assert.EqualError(t, err, `Get "https://`+deniedHost+`/": `+denial)
}
