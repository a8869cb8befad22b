package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inspectFile is a configuration with a CA that was made for it.
func inspectFile(t *testing.T) string {
	dir := t.TempDir()
	file := filepath.Join(dir, "sluice.yaml")
	status, _, err := sluice(t, nil, "", "inspect", "ca", "*.example.com", "192.0.2.0/24", "--cert", filepath.Join(dir, "ca.crt"), "--key", filepath.Join(dir, "ca.key"))
	require.Equal(t, 0, status, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("the-secret\n"), 0o600))
	require.NoError(t, os.WriteFile(file, []byte(`rules: "*"
inspect:
  caCert: ca.crt
  caKey: ca.key
  hosts:
  - {host: api.example.com, requests: "GET /v1/**", headers: {X-Key: {file: token}}}
  - {host: "other.example.com:8443", requests: "*", emptySegments: keep}
tenants:
- {name: ci, clients: 10.0.0.0/8, rules: "*", inspect: {hosts: [{host: api.example.com, requests: "POST /"}]}}
`), 0o600))
	return file
}

func TestInspectTest(t *testing.T) {
	file := inspectFile(t)
	ask := func(args ...string) []any {
		status, out, err := sluice(t, nil, "", append([]string{"inspect", "test", file}, args...)...)
		return []any{status, out, err}
	}
	by := "request rule " + file + ":6 GET /v1/**"
	assert.Equal(t, []any{0, "allow\tGET https://api.example.com/v1/x?a#b\t" + by + "\nnot asked\tGET https://example.org/\tnothing is said of requests to this host\n", ""},
		ask("GET https://api.example.com/v1/x?a#b", "GET https://example.org/"))
	assert.Equal(t, []any{1, "deny\tGET https://api.example.com/v1/%2e%2E/x\tmalformed path: a dot segment\n", ""}, ask("GET https://api.example.com/v1/%2e%2E/x"))
	assert.Equal(t, []any{1, "deny\tGET http://api.example.com/v1/x\tcredentials are put in for this host, which go by TLS only; ask for https\n", ""}, ask("GET http://api.example.com/v1/x"))
	elsewhere := "requests to this host are asked what they may do, and a tunnel to another port would go past that: name the port in hosts of inspect, with passthrough: true to let it be\n"
	assert.Equal(t, []any{1, "deny\tGET https://other.example.com/\t" + elsewhere, ""}, ask("GET https://other.example.com/"))
	assert.Equal(t, []any{1, "deny\tGET https://api.example.com:8443/v1/x\t" + elsewhere, ""}, ask("GET https://api.example.com:8443/v1/x"))
	assert.Equal(t, []any{0, `{"request":"GET https://other.example.com:8443/a//b","host":"other.example.com:8443","verdict":"allow","reason":"request rule ` + file + `:7 *","line":7}` + "\n", ""},
		ask("--json", "GET https://other.example.com:8443/a//b"))
	assert.Equal(t, []any{1, "deny\tGET https://api.example.com/v1/x\tno request rule allows it\n", ""}, ask("--tenant", "ci", "GET https://api.example.com/v1/x"))

	assert.Equal(t, []any{1, "deny\tPOST HTTPS://api.example.com?x=/y\tno request rule allows it\n", ""}, ask("POST HTTPS://api.example.com?x=/y"))
	assert.Equal(t, []any{0, "allow\tPOST HTTPS://api.example.com?x=/y\trequest rule " + file + ":9 POST /\n", ""}, ask("--tenant", "ci", "POST HTTPS://api.example.com?x=/y"))

	assert.Equal(t, []any{2, "", "--tenant: there is no tenant \"no\" in the file\n"}, ask("--tenant", "no", "GET https://api.example.com/"))
	assert.Equal(t, []any{2, "", "\"https://api.example.com/\" is no request: write it as 'GET https://api.example.com/v1/models'\n"}, ask("https://api.example.com/"))
}

// The CA is bound to its hosts, its key is the owner's, and nothing is written over.
func TestInspectCA(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	status, out, err := sluice(t, nil, "", "inspect", "ca", "*.Example.com", "192.0.2.1", "--days", "30", "--name", "ours", "--cert", cert, "--key", key)
	require.Equal(t, 0, status, err)
	assert.Equal(t, cert+": clients of *.Example.com, 192.0.2.1 trust it from now on, if you have them\n"+key+": keep it secret; the gateway alone reads it\n", out)
	info, e := os.Stat(key)
	require.NoError(t, e)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	text, e := os.ReadFile(cert)
	require.NoError(t, e)
	block, _ := pem.Decode(text)
	c, e := x509.ParseCertificate(block.Bytes)
	require.NoError(t, e)
	assert.Equal(t, []string{"example.com"}, c.PermittedDNSDomains)
	assert.Equal(t, "192.0.2.1/32", c.PermittedIPRanges[0].String())
	assert.True(t, c.PermittedDNSDomainsCritical)
	assert.Equal(t, "ours", c.Subject.CommonName)
	assert.WithinDuration(t, time.Now().AddDate(0, 0, 30), c.NotAfter, time.Hour)

	status, _, err = sluice(t, nil, "", "inspect", "ca", "a.test", "--cert", cert, "--key", filepath.Join(dir, "b.key"))
	assert.Equal(t, []any{2, "open " + cert + ": file exists\n"}, []any{status, err})
	assert.NoFileExists(t, filepath.Join(dir, "b.key"))
	for _, host := range []string{"*", "!a.test", "a.test:443", "a-*.test", "https://a.test", "a b"} {
		status, _, err = sluice(t, nil, "", "inspect", "ca", host, "--cert", filepath.Join(dir, "c.crt"), "--key", filepath.Join(dir, "c.key"))
		assert.Equal(t, 2, status, host)
		assert.Contains(t, err, "is no host that a CA can be bound to", host)
	}
}
