package proxy

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// insideGate is a gateway that opens tunnels to api.test, whose server is the test's.
type insideGate struct {
	*gateway
	roots  *x509.CertPool // that clients trust
	target string         // host:port

	mu    sync.Mutex
	conns int // connections that the server has got
}

// insideSecret is the credential that requests get.
const insideSecret = "ghp_0123456789abcdefghij"

// startInside starts it. protos are what the server speaks.
func startInside(t testing.TB, protos []string, serve http.HandlerFunc, change func(*policy.Inspected, *Options)) *insideGate {
	t.Helper()
	g := &insideGate{}
	server := httptest.NewUnstartedServer(serve)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			g.mu.Lock()
			g.conns++
			g.mu.Unlock()
		}
	}
	server.EnableHTTP2 = false
	of := nettest.NewCA(t)
	server.TLS = &tls.Config{NextProtos: protos, Certificates: []tls.Certificate{of.Issue("api.test")}}
	if protos[0] == "h2" {
		require.NoError(t, http2.ConfigureServer(server.Config, nil))
		server.TLS.NextProtos = protos
		server.Config.TLSConfig.NextProtos = protos
	}
	if len(protos) == 1 && protos[0] == "h2" { // crypto/tls lets who offers HTTP/1.1 in all the same
		server.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(h.SupportedProtos, "h2") {
				return nil, nil
			}
			return &tls.Config{NextProtos: []string{"none"}, Certificates: server.TLS.Certificates}, nil
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	g.use(t, of.Pool, server.Listener.Addr().String(), change)
	return g
}

// use starts the gateway in front of a server.
func (g *insideGate) use(t testing.TB, roots *x509.CertPool, server string, change func(*policy.Inspected, *Options)) {
	t.Helper()
	g.target = "api.test:" + portOf(server)
	host := policy.Inspected{Host: g.target, Requests: everything(t)}
	g.gateway = start(t, "api.test\n"+allowLoopback, names{"api.test": {netip.MustParseAddr("127.0.0.1")}}, func(o *Options) {
		o.TLS = &tls.Config{RootCAs: roots}
		if change != nil {
			change(&host, o)
		}
	})
	cert, key, err := ca.Make("test", []string{"test"}, nil, time.Now().Add(time.Hour))
	require.NoError(t, err)
	g.roots = x509.NewCertPool()
	require.True(t, g.roots.AppendCertsFromPEM(cert))
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	signer, err := ca.New(pair)
	require.NoError(t, err)
	in, err := policy.NewInspect([]policy.Inspected{host})
	require.NoError(t, err)
	in.Certificate = signer.Certificate
	g.tenant.Inspect = in
	g.rules(t, "api.test\n"+allowLoopback)
}

func everything(t testing.TB) *request.Rules { return requestRules(t, "*") }

func requestRules(t testing.TB, text string) *request.Rules {
	t.Helper()
	r, err := request.Parse(text, request.Options{})
	require.NoError(t, err)
	return r
}

// tunnel opens one and does the handshake with the gateway.
func (g *insideGate) tunnel(t testing.TB, protos ...string) *tls.Conn {
	t.Helper()
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", g.target)
	require.Contains(t, c.head(t), " 200 ")
	s := tls.Client(c.TCPConn, &tls.Config{ServerName: "api.test", RootCAs: g.roots, NextProtos: protos})
	require.NoError(t, s.Handshake())
	t.Cleanup(func() { s.Close() })
	return s
}

// h2 is a client of HTTP/2 in a tunnel.
func (g *insideGate) h2(t testing.TB) *http2.ClientConn {
	t.Helper()
	s := g.tunnel(t, "h2", "http/1.1")
	require.Equal(t, "h2", s.ConnectionState().NegotiatedProtocol)
	cc, err := (&http2.Transport{DisableCompression: true}).NewClientConn(s)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

// ask sends a request.
func (g *insideGate) ask(t testing.TB, cc *http2.ClientConn, method, path string, body io.Reader, fields ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+g.target+path, body)
	require.NoError(t, err)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	resp, err := cc.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// all is the body of an answer.
func all(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// wantUp is what is spoken with a server: what the client speaks, if it can.
func wantUp(down string, up []string) string {
	if slices.Contains(up, down) {
		return down
	}
	return up[0]
}

func TestInsideBoth(t *testing.T) {
	for _, up := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}, {"h2"}} {
		for _, down := range []string{"h2", "http/1.1"} {
			t.Run(fmt.Sprint(down, " to ", up), func(t *testing.T) {
				g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
					b, _ := io.ReadAll(r.Body)
					w.Header().Set("X-Proto", r.Proto)
					w.Header().Set("X-Got", fmt.Sprintf("%s %s %s %v", r.Method, r.RequestURI, r.Host, slices.Equal(r.Header["Authorization"], []string{"Bearer " + insideSecret})))
					w.Write(b)
				}, func(in *policy.Inspected, _ *Options) {
					in.Headers = []policy.Header{policy.NewHeader("Authorization", "Bearer ", []byte(insideSecret))}
				})
				body := strings.Repeat("0123456789abcdef", 1<<14)
				var resp *http.Response
				for _, how := range []string{"GET", "POST", "sized"} {
					send := ""
					if how != "GET" {
						send = body
					}
					if down == "h2" {
						cc := g.h2(t)
						var r io.Reader
						method := "POST"
						switch how {
						case "GET":
							method = "GET"
						case "POST":
							r = io.MultiReader(strings.NewReader(body))
						default:
							r = strings.NewReader(body)
						}
						resp = g.ask(t, cc, method, "/a%20b/c?d=%41", r, "Authorization: stolen")
					} else {
						c := g.tunnel(t, "http/1.1")
						fmt.Fprintf(c, "%s /a%%20b/c?d=%%41 HTTP/1.1\r\nHost: %s\r\nAuthorization: stolen\r\nContent-Length: %d\r\n\r\n%s", strings.Replace(how, "sized", "POST", 1), g.target, len(send), send)
						var err error
						resp, err = http.ReadResponse(bufio.NewReader(c), nil)
						require.NoError(t, err)
					}
					got := all(t, resp)
					require.Equal(t, 200, resp.StatusCode, got)
					require.Equal(t, send, got)
					method := strings.Replace(how, "sized", "POST", 1)
					assert.Equal(t, method+" /a%20b/c?d=%41 "+g.target+" true", resp.Header.Get("X-Got"))
					assert.Equal(t, map[string]string{"h2": "HTTP/2.0", "http/1.1": "HTTP/1.1"}[wantUp(down, up)], resp.Header.Get("X-Proto"))
				}
			})
		}
	}
}
