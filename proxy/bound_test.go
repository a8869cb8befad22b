package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// connAuthServer serves over c as IIS does: a connection is authenticated by the second leg
// of the scheme, and then whatever comes over it is of that user.
func connAuthServer(r *bufio.Reader, c io.Writer, scheme string) {
	user, challenged := "nobody", false
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		switch given := req.Header.Get("Authorization"); {
		case given == scheme+" hello":
			challenged = true
			fmt.Fprintf(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %s challenge\r\nContent-Length: 0\r\n\r\n", scheme)
			continue
		case strings.HasPrefix(given, scheme+" ") && challenged:
			user = strings.TrimPrefix(given, scheme+" ")
		case user == "nobody" && req.URL.Path != "/open":
			fmt.Fprintf(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: Digest x=\"y\", %s\r\nContent-Length: 0\r\n\r\n", scheme)
			continue
		}
		page := fmt.Sprintf("page of %s, %d", user, len(body))
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
	}
}

// A connection that a server has authenticated (NTLM, Negotiate) is of that client
// connection alone, on which all legs go over it, those of a POST too.
func TestConnectionBoundAuthentication(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate()) // for example.com
	for _, way := range []string{"http on a loop", "http on a goroutine", "https"} {
		for _, scheme := range []string{"NTLM", "Negotiate"} {
			for _, method := range []string{"GET", "POST"} {
				t.Run(way+" "+scheme+" "+method, func(t *testing.T) {
					var conns atomic.Int32
					server := rawOrigin(t, func(raw *rawClient) {
						conns.Add(1)
						var c net.Conn = raw.TCPConn
						if way == "https" {
							c = tls.Server(raw.TCPConn, &tls.Config{Certificates: certified.TLS.Certificates})
						}
						connAuthServer(bufio.NewReader(c), c, scheme)
					})
					g := start(t, allowLoopback, names{"example.com": {loopback}}, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
					url := "http://example.com:" + portOf(server)
					if way == "https" {
						url = "https://example.com:" + portOf(server)
					}
					ask := func(c *rawClient, method, path, auth string) (*http.Response, string) {
						t.Helper()
						head := fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: x\r\n", method, url, path)
						if auth != "" {
							head += "Authorization: " + scheme + " " + auth + "\r\n"
						}
						body := ""
						if method == "POST" {
							body = "body"
							head += "Content-Length: 4\r\n"
						}
						if head += "\r\n"; way == "http on a goroutine" {
							c.send(t, "%s", head[:5])
							nettest.Eventually(t, "the other end has all", func() bool { return hasAll(t, c) })
							head = head[5:]
						}
						c.send(t, "%s%s", head, body)
						return c.response(t, method)
					}
					alice, mallory := g.dial(t), g.dial(t)
					for range 2 { // so that there are pooled ones
						res, body := ask(mallory, "GET", "/open", "")
						assert.Equal(t, "200 page of nobody, 0", fmt.Sprint(res.StatusCode, " ", body))
					}
					require.EqualValues(t, 1, conns.Load())
					res, _ := ask(alice, method, "/", "")
					assert.Equal(t, 401, res.StatusCode)
					assert.Equal(t, "Session-Based-Authentication", res.Header.Get("Proxy-Support"))
					assert.Equal(t, "Proxy-Support", res.Header.Get("Connection"))
					res, _ = ask(alice, method, "/", "hello")
					assert.Equal(t, 401, res.StatusCode)
					want := "200 page of alice, " + map[string]string{"GET": "0", "POST": "4"}[method]
					for _, auth := range []string{"alice", "", ""} {
						res, body := ask(alice, method, "/", auth)
						assert.Equal(t, want, fmt.Sprint(res.StatusCode, " ", body))
						assert.Empty(t, res.Header.Get("Proxy-Support"))
						res, _ = ask(mallory, "GET", "/", "")
						assert.Equal(t, 401, res.StatusCode)
					}
					assert.Zero(t, g.Gate.Pool.Len(), "what offers the scheme is not shared either")
					alice.Close()
					mallory.Close()
					nettest.Eventually(t, "descriptors are given back", func() bool { return g.Budget.Left() == 1000 })
				})
			}
		}
	}
}
