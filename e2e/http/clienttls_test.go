//go:build linux

package http

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// byCertificate is a configuration in which a client is somebody by its certificate alone.
const byCertificate = `source: [` + nettest.SourceV4 + `, ` + nettest.SourceV6 + `]
resolver: ` + nettest.NodeV4 + `
listenTLS: ":8443"
tlsCert: %[1]s/gateway.pem
tlsKey: %[1]s/gateway.key
clientCA: %[1]s/ca.pem
authenticate: required
tenants:
- name: shop
  certificates: "spiffe://cluster.local/ns/shop/sa/*"
  rules: |
    *.example.com
`

// Real clients that speak TLS to the proxy, and show it a certificate.
func TestClientsByTLS(t *testing.T) {
	nettest.Need(t, "git")
	o, mux := newServers(t)
	head := newRepository(t, mux)
	mux.HandleFunc("/heads", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.Header) })
	dir := t.TempDir()
	ca := nettest.NewCA(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM, 0o600))
	nettest.WriteFiles(t, dir, "gateway", ca.Issue(nettest.PodV4))
	cert, key := nettest.WriteFiles(t, dir, "shop", ca.Issue("spiffe://cluster.local/ns/shop/sa/builder"))
	otherCert, otherKey := nettest.WriteFiles(t, dir, "other", ca.Issue("spiffe://cluster.local/ns/other/sa/builder"))
	g := start(t, program.Setup{Netns: o.Egress, Config: fmt.Sprintf(byCertificate, dir)})

	proxy := "https://" + nettest.PodV4 + ":8443"
	curl := func(cert, key string, args ...string) program.Output {
		args = append([]string{"-sSf", "-x", proxy, "--proxy-cacert", dir + "/ca.pem", "--proxy-cert", cert, "--proxy-key", key, "--cacert", o.CA.File}, args...)
		return program.Command(t, o.Client, nil, "curl", args...)
	}
	for _, scheme := range []string{"http://", "https://"} {
		got := curl(cert, key, scheme+allowedHost+"/file")
		assert.Equal(t, content, got.Out, got.Err)
		got = curl(otherCert, otherKey, scheme+allowedHost+"/file")
		assert.NotZero(t, got.Status, "a certificate of no tenant")
		git := append([]string{"GIT_SSL_CAINFO=" + o.CA.File, "http_proxy=" + proxy, "https_proxy=" + proxy,
			"GIT_PROXY_SSL_CAINFO=" + dir + "/ca.pem", "GIT_PROXY_SSL_CERT=" + cert, "GIT_PROXY_SSL_KEY=" + key}, gitEnv...)
		got = program.Command(t, o.Client, git, "git", "ls-remote", scheme+allowedHost+"/git/repo.git")
		assert.Contains(t, got.Out, head, got.Err)
		assert.NotContains(t, curl(cert, key, scheme+allowedHost+"/heads").Out, "spiffe", "it goes no further")
	}
	// Without one the client is nobody, and is asked for what it can show.
	got := program.Command(t, o.Client, nil, "curl", "-sSi", "-x", proxy, "--proxy-cacert", dir+"/ca.pem", "http://"+allowedHost+"/file")
	assert.Contains(t, got.Out, "HTTP/1.1 407 Proxy Authentication Required", got.Err)
	nettest.Eventually(t, "the log says who", func() bool {
		for _, line := range g.AccessLog() {
			if strings.Contains(line, `"tenant":"shop","user":"spiffe://cluster.local/ns/shop/sa/builder"`) {
				return true
			}
		}
		return false
	})
	// What is shown, and who is believed, is another from a reload on.
	next := nettest.NewCA(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.pem"), next.PEM, 0o600))
	nettest.WriteFiles(t, dir, "gateway", next.Issue(nettest.PodV4))
	nettest.Eventually(t, "the new certificate is shown", func() bool {
		got := program.Command(t, o.Client, nil, "curl", "-sSi", "-x", proxy, "--proxy-cacert", dir+"/ca.pem", "http://"+allowedHost+"/file")
		return strings.Contains(got.Out, "407")
	})
	assert.NotZero(t, curl(cert, key, "http://"+allowedHost+"/file").Status, "a certificate of the CA before")
	nettest.WriteFiles(t, dir, "shop", next.Issue("spiffe://cluster.local/ns/shop/sa/builder"))
	assert.Equal(t, content, curl(cert, key, "http://"+allowedHost+"/file").Out)
}
