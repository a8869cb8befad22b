package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// http1 opens a tunnel, and is its client in HTTP/1.1.
func (g *insideGate) http1(t testing.TB) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	s := g.tunnel(t, "http/1.1")
	s.SetDeadline(time.Now().Add(20 * time.Second))
	return s, bufio.NewReader(s)
}

func (g *insideGate) get(t testing.TB, c io.Writer, path, fields string) {
	t.Helper()
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, g.target, fields)
	require.NoError(t, err)
}

// An answer that the server has cut does not look like one that it has ended, at the end of an opened
// tunnel, too; and what it has ended does.
func TestOpenedTunnelEnds(t *testing.T) {
	heads := map[string]string{
		"/length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
		"/chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
		"/close":  "HTTP/1.1 200 OK\r\n\r\n12345",
	}
	g := startInside(t, []string{"http/1.1"}, func(w http.ResponseWriter, r *http.Request) {
		head, cut := heads[r.URL.Path]
		if !cut {
			io.WriteString(w, "whole")
			return
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		io.WriteString(c, head)
		c.(*tls.Conn).NetConn().Close() // without close_notify
	}, nil)
	for path := range heads {
		c, r := g.http1(t)
		g.get(t, c, path, "")
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err, path)
		body, err := io.ReadAll(res.Body)
		assert.Equal(t, "12345", string(body), path)
		assert.Error(t, err, path)
		if _, err = r.ReadByte(); path == "/close" {
			assert.NotErrorIs(t, err, io.EOF, path)
		}
		assert.Error(t, err, path)
	}
	c, r := g.http1(t)
	g.get(t, c, "/", "Connection: close\r\n")
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "whole", string(body))
	_, err = r.ReadByte()
	assert.Equal(t, io.EOF, err, "close_notify")
}

// A tunnel in which nobody asks for anything any more ends, and says so.
func TestOpenedTunnelAtRest(t *testing.T) {
	g := startInside(t, []string{"http/1.1"}, func(w http.ResponseWriter, _ *http.Request) {}, func(_ *policy.Inspected, o *Options) {
		o.KeepAliveTimeout = 300 * time.Millisecond
	})
	c, r := g.http1(t)
	for range 3 {
		g.get(t, c, "/", "")
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		res.Body.Close()
	}
	_, err := r.ReadByte()
	assert.Equal(t, io.EOF, err)
}

// Heads and bodies of any size go both ways, also when several requests come at once; and the tunnel is
// one connection, with what comes out of it.
func TestOpenedTunnelCarries(t *testing.T) {
	g := startInside(t, []string{"http/1.1"}, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Got", fmt.Sprintf("%d %x %d", n, sum.Sum(nil), len(r.Header.Get("Long"))))
		if r.URL.Query().Has("chunks") {
			for i := range 100 {
				w.Write(bytes.Repeat([]byte{byte(i)}, 7919))
			}
			return
		}
		w.Header().Set("Content-Length", "791900")
		for i := range 100 {
			w.Write(bytes.Repeat([]byte{byte(i)}, 7919))
		}
	}, func(_ *policy.Inspected, o *Options) { o.MaxConns = 1 })
	var want []byte
	for i := range 100 {
		want = append(want, bytes.Repeat([]byte{byte(i)}, 7919)...)
	}
	c, r := g.http1(t)
	for _, long := range []int{1, 3000, 4096, 5000, 20000} {
		for _, size := range []int{0, 1, 16 << 10, 300_001} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			sum := sha256.Sum256(body)
			chunked := size%2 == 1
			var b bytes.Buffer
			fmt.Fprintf(&b, "POST /%s HTTP/1.1\r\nHost: %s\r\nLong: %s\r\n", map[bool]string{true: "?chunks"}[chunked], g.target, strings.Repeat("x", long))
			if chunked {
				fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			} else {
				fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
			}
			g.get(t, &b, "/", "") // behind it, at once
			_, err := c.Write(b.Bytes())
			require.NoError(t, err)
			for i := range 2 {
				res, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				got, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.Equal(t, want, got)
				if i == 0 {
					require.Equal(t, fmt.Sprintf("%d %x %d", size, sum, long), res.Header.Get("Got"))
				}
			}
			require.Len(t, g.Open(), 1)
		}
	}
}

// A reload ends nothing that is allowed as before. A request under way inside an opened tunnel that its
// rules deny by then ends, with its line; so does what an Upgrade has made of one.
func TestOpenedTunnelRevoked(t *testing.T) {
	for name, protos := range map[string][]string{"HTTP/1.1": {"http/1.1"}, "HTTP/2": {"h2"}, "upgrade": {"http/1.1"}} {
		t.Run(name, func(t *testing.T) {
			g := startInside(t, protos, func(w http.ResponseWriter, r *http.Request) {
				if name == "upgrade" {
					c, b, err := w.(http.Hijacker).Hijack()
					if err != nil {
						return
					}
					defer c.Close()
					io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
					b.ReadByte()
					return
				}
				w.WriteHeader(200)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}, nil)
			var body io.Reader
			if name == "HTTP/2" {
				body = g.ask(t, g.h2(t), "GET", "/wait", nil).Body
			} else {
				c, r := g.http1(t)
				g.get(t, c, "/wait", map[string]string{"upgrade": "Connection: Upgrade\r\nUpgrade: websocket\r\n"}[name])
				res, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				require.Contains(t, []int{101, 200}, res.StatusCode)
				if body = r; name != "upgrade" {
					body = res.Body
				}
			}
			nettest.Eventually(t, "its server is known of", func() bool {
				return slices.ContainsFunc(g.Open(), func(o door.Open) bool { return o.Addr.IsValid() })
			})
			g.rules(t, "# as before\napi.test\n"+allowLoopback)
			assert.Zero(t, g.Revoke())
			in, err := policy.NewInspect([]policy.Inspected{{Host: g.target, Requests: requestRules(t, "!* /wait\n*")}})
			require.NoError(t, err)
			in.Certificate = g.tenant.Inspect.Certificate
			g.tenant.Inspect = in
			g.rules(t, "api.test\n"+allowLoopback)
			assert.Equal(t, 1, g.Revoke())
			_, err = io.ReadAll(body)
			if name != "upgrade" {
				assert.Error(t, err)
			}
			assert.Contains(t, g.lines(t, map[bool]int{true: 1, false: 2}[name == "HTTP/2"])[0], `"revoked":"denied by request rules: request rule in line 1 !* /wait"`)
		})
	}
}
