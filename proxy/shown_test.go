package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func withCredential(in *policy.Inspected, _ *Options) {
	in.Headers = []policy.Header{policy.NewHeader("Authorization", "Bearer ", []byte(insideSecret))}
}

// asks sends a request by the protocol, and returns all that comes back. whole says that the answer
// has come to its end.
func (g *insideGate) asks(t testing.TB, proto, path string) (all string, whole bool) {
	t.Helper()
	var resp *http.Response
	if proto == "h2" {
		resp = g.ask(t, g.h2(t), "GET", path, nil)
	} else {
		c := g.tunnel(t, "http/1.1")
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, g.target)
		b, err := io.ReadAll(c)
		resp, headErr := http.ReadResponse(bufio.NewReader(strings.NewReader(string(b))), nil)
		require.NoError(t, headErr, "%q", b)
		_, bodyErr := io.ReadAll(resp.Body)
		return string(b), err == nil && bodyErr == nil
	}
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, resp.Header, string(b), resp.Trailer), err == nil
}

// What a server shows of a credential behind the head of its answer does not reach the client, nor
// does it as the name of a field, in whatever case: the answer is a 502, or is cut.
func TestShownBehind(t *testing.T) {
	for _, up := range bothUp {
		g := startInside(t, up, func(w http.ResponseWriter, r *http.Request) {
			value := r.Header.Get("Authorization")
			switch r.URL.Path {
			case "/name":
				w.Header().Set("X-"+strings.TrimPrefix(value, "Bearer "), "1")
			case "/harmless":
				w.Header().Set("Trailer", "X-Last")
				io.WriteString(w, "body")
				w.Header().Set("X-Last", "fine")
			default: // /trailer, /trailername, and what comes later
				w.Header().Set("Trailer", "X-Last")
				io.WriteString(w, "body")
				if strings.HasSuffix(r.URL.Path, "/later") {
					http.NewResponseController(w).Flush()
				}
				if strings.HasPrefix(r.URL.Path, "/trailername") {
					w.Header().Set(http.TrailerPrefix+"X-"+strings.TrimPrefix(value, "Bearer "), "1")
				} else {
					w.Header().Set("X-Last", value)
				}
			}
		}, withCredential)
		n := 0
		for _, down := range []string{"h2", "http/1.1"} {
			for _, path := range []string{"/name", "/trailer", "/trailer/later", "/trailername", "/trailername/later"} {
				t.Run(fmt.Sprintf("%s to %s %s", down, up[0], path), func(t *testing.T) {
					all, whole := g.asks(t, down, path)
					require.NotContains(t, strings.ToLower(all), insideSecret)
					if whole {
						assert.Contains(t, all, "502")
						assert.Contains(t, all, "shows the credential")
					}
					n++
					nettest.Eventually(t, "it is booked", func() bool {
						log := g.log.String()
						return strings.Count(log, `"status":502,`) == n && strings.Count(log, `"error":"http_protocol_error"`) == n
					})
					assert.NotContains(t, g.log.String(), insideSecret)
				})
			}
			all, whole := g.asks(t, down, "/harmless")
			assert.True(t, whole)
			assert.Contains(t, all, "fine")
		}
	}
}

// Nor does what a server of HTTP/1.1 shows in an extension of a chunk.
func TestShownInExtension(t *testing.T) {
	of := nettest.NewCA(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{of.Issue("api.test")}, NextProtos: []string{"http/1.1"}})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveExtension(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	g := &insideGate{}
	g.use(t, of.Pool, l.Addr().String(), withCredential)
	for _, down := range []string{"h2", "http/1.1"} {
		all, whole := g.asks(t, down, "/")
		assert.NotContains(t, all, insideSecret, down)
		assert.True(t, !whole || strings.Contains(all, "502"), all)
	}
}

// serveExtension answers one request with two chunks, the second of which shows the credential.
func serveExtension(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err == nil {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1;shown=%q\r\nb\r\n0\r\n\r\n", r.Header.Get("Authorization"))
	}
}
