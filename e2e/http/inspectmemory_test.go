//go:build linux

package http

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var (
	h2Clients = flag.Int("h2-clients", 200, "how many idle clients of HTTP/2 are held in tunnels")
	h2Slow    = flag.Int("h2-slow", 2, "how many clients take nothing of 100 answers each")
)

// client is one of HTTP/2 in a tunnel.
func (o *inspected) client(t testing.TB, roots *x509.CertPool) *http2.ClientConn {
	t.Helper()
	c := dialClient(t, o.outside)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Contains(t, readHead(t, c), " 200 ")
	require.NoError(t, c.SetDeadline(time.Time{}))
	s := tls.Client(c, &tls.Config{ServerName: "api.example.com", RootCAs: roots, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
	require.NoError(t, s.Handshake())
	tr, err := http2.ConfigureTransports(&http.Transport{DisableCompression: true, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}})
	require.NoError(t, err)
	cc, err := tr.NewClientConn(s)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

// What an idle client of HTTP/2 costs, and a stream whose client takes nothing. The figures of
// docs/inspect.md are those of -h2-clients 1000 -h2-slow 20.
func TestInspectHTTP2Memory(t *testing.T) {
	const streams, size = 100, 8 * mib
	o := newInspectedOf(t, program.Setup{Plain: true}, "\n  - {host: api.example.com, requests: '*'}\n")
	var sent atomic.Int64
	o.mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { zeros(w, size, &sent) })
	roots := o.roots(t)
	get := func(cc *http2.ClientConn, path string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.example.com"+path, nil)
		if err != nil {
			return nil, err
		}
		return cc.RoundTrip(r)
	}
	one := func() *http2.ClientConn {
		cc := o.client(t, roots)
		resp, err := get(cc, "/")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return cc
	}
	one()
	before, _ := o.g.memory()
	all := make([]*http2.ClientConn, *h2Clients)
	for i := range all {
		all[i] = one()
	}
	now, _ := o.g.memory()
	t.Logf("%d idle clients: %d MiB more, %d KiB each", len(all), now-before, (now-before)<<10/len(all))
	assert.Less(t, (now-before)<<10/len(all), 256, "KiB of an idle client")

	before = now
	var wg sync.WaitGroup
	for i := range min(*h2Slow, len(all)) {
		for range streams {
			wg.Go(func() {
				if resp, err := get(all[i], "/large"); assert.NoError(t, err) {
					assert.Equal(t, 200, resp.StatusCode)
				}
			})
		}
	}
	wg.Wait()
	last, since := int64(0), time.Now() // of what moved
	nettest.Eventually(t, "the server can send no more", func() bool {
		if now := sent.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
	now, _ = o.g.memory()
	n := *h2Slow * streams
	t.Logf("%d streams whose clients take nothing: %d MiB more, %d KiB each; the server has sent %d KiB of each", n, now-before, (now-before)<<10/n, sent.Load()>>10/int64(n))
	assert.Less(t, (now-before)<<10/n, 1024, "KiB of a stream whose client takes nothing")
	assert.Less(t, sent.Load()>>10/int64(n), int64(2048), "KiB that the server has sent of each, which the kernel holds, too")
}
