//go:build linux

package http

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// By HTTP/2 a request inside a tunnel gets the same as by HTTP/1.1: curl asks by either.
func TestInspectHTTP2(t *testing.T) {
	o := newInspected(t, apiHosts)
	for _, c := range []struct{ args, status, says string }{
		{"https://api.example.com/repos/acme/x?q=1", "200", ""},
		{"-I https://api.example.com/repos/acme/x", "200", ""},
		{"https://api.example.com/user/keys/1", "403", "Egress denied: request rule"},
		{"https://api.example.com/", "403", "no request rule allows it"},
		{"-X DELETE https://api.example.com/repos/acme/x", "403", "no request rule allows it"},
		{"https://api.example.com/repos/acme/../../user/keys", "400", "a dot segment"},
		{"-X TRACE https://api.example.com/repos/acme/x", "403", "TRACE is never sent on"},
		{"-H X-HTTP-Method-Override:DELETE https://api.example.com/repos/acme/x", "400", "overrides what the rules judge"},
		{"-H Origin:https://evil.test https://api.example.com/repos/acme/x", "403", "a page of another origin asks"},
		{"-H Host:other.example.com https://api.example.com/repos/acme/x", "421", "Host and the name"},
		{"-d 0123456789 https://api.example.com/upload", "200", ""},
		{"-d 01234567890 https://api.example.com/upload", "413", "a body of more than 10 bytes"},
		{"-H Transfer-Encoding:chunked -d 01234567890 https://api.example.com/upload", "413", "a body of more than 10 bytes"},
	} {
		t.Run(c.args, func(t *testing.T) {
			o.got()
			out := o.askBy(t, "--http2", append([]string{"-H", "Authorization: Basic of-the-client"}, strings.Fields(c.args)...)...)
			assert.Contains(t, out.Out, "HTTP/2 "+c.status+" \r\n", out.Err)
			assert.Contains(t, out.Out, c.says)
			assert.NotContains(t, out.Out+out.Err, secret)
			got := o.got()
			switch {
			case strings.Contains(c.args, "chunked"): // whose length is known when the server has its head
				return
			case c.status != "200":
				assert.Empty(t, got)
				return
			}
			if assert.Len(t, got, 1) {
				assert.Equal(t, []string{"Bearer " + secret}, got[0].Header["Authorization"])
				assert.Equal(t, "HTTP/2.0", got[0].Proto, "the server speaks it, too")
			}
		})
	}
	log := strings.Join(o.g.AccessLog(), "\n")
	assert.NotContains(t, log, "q=1")
	assert.NotContains(t, log+o.g.Stderr(), secret)
	assert.Contains(t, log, `"target":"https://api.example.com/repos/acme/x","verdict":"allow"`)
}

// A client that asks by HTTP/2 whether its body is wanted gets the server's word, or the gateway's.
func TestInspectHTTP2Expect(t *testing.T) {
	o := newInspected(t, "\n  - {host: api.example.com, requests: 'POST /**', maxBody: 10}\n")
	o.mux.HandleFunc("/refuses", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusConflict) // with a body: curl 7.88 calls an early answer without one an empty reply
	})
	for _, c := range []struct{ args, status string }{
		{"-d 0123456789 https://api.example.com/upload", "200"},
		{"-d 01234567890 https://api.example.com/upload", "413"},
		{"-d 0123456789 https://api.example.com/refuses", "409"},
	} {
		out := o.askBy(t, "--http2", append([]string{"-H", "Expect: 100-continue", "--expect100-timeout", "30"}, strings.Fields(c.args)...)...)
		assert.Contains(t, out.Out, "HTTP/2 "+c.status+" \r\n", out.Err)
		assert.Less(t, out.Took, 20*time.Second)
		assert.Equal(t, c.status == "200", strings.Contains(out.Out, "HTTP/2 100"), out.Out)
	}
}

// Many requests go over one tunnel at once.
func TestInspectHTTP2Parallel(t *testing.T) {
	o := newInspected(t, apiHosts)
	args := []string{"--parallel", "--parallel-max", "50", "-o", "/dev/null", "-w", "%{http_code} %{http_version}\n"}
	for range 200 {
		args = append(args, "https://api.example.com/repos/acme/x")
	}
	out := o.askBy(t, "--http2", args...)
	require.Equal(t, 0, out.Status, out.Err)
	assert.Equal(t, 200, strings.Count(out.Out, "200 2\n"), out.Out)
}

// A client of HTTP/1.1 gets what it asks for of servers that speak HTTP/2 alone: nghttpd, and net/http.
func TestInspectOneToTwo(t *testing.T) {
	nettest.Need(t, "nghttpd")
	o := newInspected(t, "\n  - host: api.example.com:8443,8444\n    requests: |\n      *\n")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("of two\n"), 0o600))
	config := o.outside.CA.serverConfig("api.example.com")
	cert, key := nettest.WriteFiles(t, dir, "server", config.Certificates[0])
	cmd := exec.Command("nghttpd", "--address="+nettest.ServerAV4, "-d", dir, "8443", key, cert)
	require.NoError(t, o.ServerA.Start(cmd))
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), TLSConfig: config, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP2(true)
	l := o.ServerA.Listen(nettest.ServerAV4 + ":8444")
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	nettest.Eventually(t, "nghttpd listens", func() bool {
		c, err := o.Egress.DialContext(t.Context(), "tcp", nettest.ServerAV4+":8443")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for _, port := range []string{"8443", "8444"} {
		for _, version := range []string{"--http1.1", "--http2"} {
			for range 2 {
				got := o.askBy(t, version, "https://api.example.com:"+port+"/file")
				assert.Equal(t, "of two", lastLine(got.Out), port+version+got.Out+got.Err)
			}
		}
	}
}
