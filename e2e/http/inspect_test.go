//go:build linux

package http

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/ca"
)

const secret = "ghp_0123456789abcdefghij"

// inspected is a gateway that opens the tunnels to some hosts, in front of servers that note what
// they get.
type inspected struct {
	*outside
	mux   *http.ServeMux
	g     *gateway
	token string // the file of a credential
	CA    string // the file of the CA that clients of these hosts trust

	mu   sync.Mutex
	seen []*http.Request
}

// newInspected starts it; in hosts, TOKEN is the file of the credential.
func newInspected(t testing.TB, hosts string, args ...string) *inspected {
	t.Helper()
	return newInspectedOf(t, program.Setup{}, hosts, args...)
}

// newInspectedOf starts it as s says, which has no namespace and no configuration.
func newInspectedOf(t testing.TB, s program.Setup, hosts string, args ...string) *inspected {
	t.Helper()
	o := &inspected{}
	o.outside, o.mux = newServers(t, o.note)
	for _, name := range []string{"api.example.com", "other.example.com"} {
		o.DNS.Set(name, nettest.Addrs(nettest.ServerAV4))
	}
	dir := t.TempDir()
	o.token, o.CA = filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	o.write(t, o.token, secret+"\n")
	cert, key, err := ca.Make("test", []string{"example.com"}, nil, time.Now().Add(24*time.Hour))
	require.NoError(t, err)
	o.write(t, o.CA, string(cert))
	o.write(t, filepath.Join(dir, "ca.key"), string(key))
	s.Netns, s.Config = o.Egress, fmt.Sprintf("rules: \"*.example.com\"\ninspect:\n  caCert: %s\n  caKey: %s/ca.key\n  hosts:\n%s", o.CA, dir, strings.ReplaceAll(hosts, "TOKEN", o.token))
	s.Args = append([]string{"--resolver", nettest.NodeV4, "--upstream-ca", o.outside.CA.File}, append(args, sources...)...)
	o.g = start(t, s)
	return o
}

// note takes down what a server gets.
func (o *inspected) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.seen = append(o.seen, r.Clone(r.Context()))
		o.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (o *inspected) write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// got are the requests that the servers have got since it was asked for last.
func (o *inspected) got() (all []*http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, o.seen = o.seen, nil
	return all
}

// reload has the gateway read its configuration again.
func (o *inspected) reload(t testing.TB) {
	t.Helper()
	o.g.reload()
}

// ask is curl, which trusts the CA of the gateway, and speaks HTTP/1.1.
func (o *inspected) ask(t testing.TB, args ...string) program.Output {
	t.Helper()
	return o.askBy(t, "--http1.1", args...)
}

// askBy is curl with that option of what it speaks.
func (o *inspected) askBy(t testing.TB, version string, args ...string) program.Output {
	t.Helper()
	return program.Command(t, o.Client, nil, "curl", append([]string{version, "--silent", "--show-error", "--include", "--max-time", "60",
		"--path-as-is", "--proxy", proxyURL, "--cacert", o.CA}, args...)...)
}

const apiHosts = `
  - host: api.example.com
    requests: |
      GET,HEAD /repos/acme/**
      POST /upload
      !* /user/keys**
      GET /user/**
    headers:
      Authorization: {file: TOKEN, prefix: "Bearer "}
    maxBody: 10
  - host: pinned.example.com
    passthrough: true
`

// Requests in tunnels to an inspected host, and in absolute form, are judged by method and path;
// those that may go carry a credential that the client never has.
func TestInspect(t *testing.T) {
	o := newInspected(t, apiHosts)
	for _, c := range []struct {
		args string
		want string
	}{
		{"https://api.example.com/repos/acme/x?q=1", "200"},
		{"https://api.example.com/user/emails", "200"},
		{"https://api.example.com/user/keys/1", "403 Egress denied: request rule"},
		{"https://api.example.com/USER/keys", "403 Egress denied: request rule"},
		{"https://api.example.com/", "403 Egress denied: no request rule allows it"},
		{"-X DELETE https://api.example.com/repos/acme/x", "403 Egress denied: no request rule allows it"},
		{"https://api.example.com/repos/acme/../../user/keys", "400 Bad Request: malformed path: a dot segment"},
		{"https://api.example.com/repos/acme/%2e%2e/x", "400 Bad Request: malformed path: a dot segment"},
		{"-X TRACE https://api.example.com/repos/acme/x", "403 Egress denied: TRACE is never sent on"},
		{"-H X-HTTP-Method-Override:DELETE https://api.example.com/repos/acme/x", "400 Bad Request: the field X-HTTP-Method-Override overrides what the rules judge"},
		{"-H Origin:https://evil.test https://api.example.com/repos/acme/x", "403 Egress denied: a page of another origin asks"},
		{"-H Sec-Fetch-Site:cross-site https://api.example.com/repos/acme/x", "403 Egress denied: a page of another origin asks"},
		{"-H Host:other.example.com https://api.example.com/repos/acme/x", "421 Misdirected Request: Host and the name"},
		{"-d 0123456789 https://api.example.com/upload", "200"},
		{"-d 01234567890 https://api.example.com/upload", "413 Request Entity Too Large: a body of more than 10 bytes"},
		{"-H Transfer-Encoding:chunked -d 01234567890 https://api.example.com/upload", "413 Request Entity Too Large: a body of more than 10 bytes"},
		{"http://api.example.com/repos/acme/x", "403 Egress denied: credentials are put in for this host"},
		{"http://api.example.com:8080/repos/acme/../x", "400 Bad Request: malformed path: a dot segment"},
	} {
		t.Run(c.args, func(t *testing.T) {
			o.got()
			out := o.ask(t, append([]string{"-H", "Authorization: Basic of-the-client", "-H", "authorization: Basic again", "-H", "Referer: https://referer.test/?secret", "-H", "Connection: Authorization"}, strings.Fields(c.args)...)...)
			last := ""
			for line := range strings.SplitSeq(out.Out, "\r\n") {
				if rest, ok := strings.CutPrefix(line, "HTTP/1.1 "); ok && len(rest) > 3 && rest[3] == ' ' && !strings.HasPrefix(rest, "100") && rest != "200 Connection established" {
					last = rest
				}
			}
			assert.True(t, strings.HasPrefix(last, c.want), "%s\n%s", out.Out, out.Err)
			assert.NotContains(t, out.Out+out.Err, secret)
			got := o.got()
			if c.want != "200" {
				assert.Empty(t, got)
				return
			}
			if assert.Len(t, got, 1) {
				assert.Equal(t, []string{"Bearer " + secret}, got[0].Header["Authorization"])
				assert.Equal(t, "api.example.com", got[0].Host)
			}
		})
	}
	log := strings.Join(o.g.AccessLog(), "\n")
	assert.NotContains(t, log, "q=1")
	assert.NotContains(t, log, "referer.test")
	assert.NotContains(t, log+o.g.Stderr(), secret)
	assert.Contains(t, log, `"target":"https://api.example.com/repos/acme/x","verdict":"allow"`)
	assert.Contains(t, log, `"request":"deny","request_reason":"request rule `)
	_, page := o.g.Ask("/")
	assert.Contains(t, page, "<td>api.example.com</td><td><pre>GET,HEAD /repos/acme/**\n")
	assert.NotContains(t, page, secret)
	_, all := o.g.Ask("/metrics")
	assert.Contains(t, all, `sluice_requests_total{mode="inspected",reason="request",verdict="deny"}`)
	assert.NotContains(t, all, secret)
}

// What is not listed is a blind tunnel, and so is what is passed through: the client sees the
// server's certificate.
func TestInspectOthers(t *testing.T) {
	o := newInspected(t, apiHosts)
	o.DNS.Set("pinned.example.com", nettest.Addrs(nettest.ServerAV4))
	for _, host := range []string{"other.example.com", "pinned.example.com", allowedHost} {
		got := o.curl(t, "https://"+host+"/any/../path") // with the CA of the servers
		assert.Contains(t, got.Out, "HTTP/2 200", got.Err)
	}
	got := o.curl(t, "https://api.example.com/repos/acme/x")
	assert.Contains(t, got.Err, "SSL certificate problem", "the CA of the gateway is not trusted by who does not")
}

// One connection carries many requests, of which some are denied, and goes on.
func TestInspectKeepAlive(t *testing.T) {
	o := newInspected(t, apiHosts)
	var urls []string
	for i := range 20 {
		urls = append(urls, fmt.Sprintf("https://api.example.com/%s/%d", []string{"repos/acme", "user/keys", "user"}[i%3], i))
	}
	out := o.ask(t, append([]string{"-w", "|%{http_code} %{num_connects}\n"}, urls...)...)
	var codes []string
	connects := 0
	for line := range strings.SplitSeq(out.Out, "\n") {
		if _, w, ok := strings.Cut(line, "|"); ok {
			code, n, _ := strings.Cut(w, " ")
			codes = append(codes, code)
			if n == "1" {
				connects++
			}
		}
	}
	require.Len(t, codes, 20, out.Out+out.Err)
	for i, code := range codes {
		assert.Equal(t, []string{"200", "403", "200"}[i%3], code)
	}
	assert.Equal(t, 1, connects, "of the client")
}

// A server that shows the credential in the head of its answer does not get through with that.
func TestInspectShown(t *testing.T) {
	o := newInspected(t, "\n  - host: api.example.com\n    requests: \"*\"\n    headers:\n      Authorization: {file: TOKEN, prefix: \"Bearer \"}\n")
	for path, value := range map[string]string{
		"/plain":  "Bearer " + secret,
		"/base64": base64.StdEncoding.EncodeToString([]byte("user:" + secret + "!")),
		"/url":    "https://other.example.com/?t=" + secret,
	} {
		o.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", value)
			w.WriteHeader(302)
		})
		got := o.ask(t, "https://api.example.com"+path)
		assert.Contains(t, got.Out, "HTTP/1.1 502 Bad Gateway: the head of the server's answer shows the credential", got.Err)
		assert.NotContains(t, got.Out, value)
	}
}

// A credential that changes is the new one at once, and one that cannot be read fails the request.
func TestInspectRotation(t *testing.T) {
	o := newInspected(t, "\n  - host: api.example.com\n    requests: \"*\"\n    headers:\n      X-Key: {file: TOKEN}\n")
	sends := func() string {
		o.got()
		out := o.ask(t, "https://api.example.com/")
		if got := o.got(); len(got) == 1 {
			return got[0].Header.Get("X-Key")
		}
		return out.Out
	}
	require.Equal(t, secret, sends())
	o.write(t, o.token+"2", "another-secret")
	require.NoError(t, os.Rename(o.token+"2", o.token))
	nettest.Eventually(t, "the new one is sent", func() bool { return sends() == "another-secret" })
	require.NoError(t, os.Remove(o.token))
	nettest.Eventually(t, "nothing is sent without it", func() bool {
		return strings.Contains(sends(), "HTTP/1.1 502 Bad Gateway: the gateway has no value for X-Key now")
	})
	o.write(t, o.token, secret)
	nettest.Eventually(t, "it is there again", func() bool { return sends() == secret })
}
