package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const convertData = "../../acl/convert/testdata/"

func TestConvert(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squid.conf"), []byte("acl ok dstdomain -n \"/etc/squid/ok.txt\"\ninclude /etc/squid/conf.d/*.conf\nhttp_access deny all\n"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "etc/squid/conf.d"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/squid/ok.txt"), []byte(".example.com\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/squid/conf.d/a.conf"), []byte("http_access allow ok\n"), 0o600))
	status, out, err := sluice(t, nil, "", "convert", "squid", "--root", dir, filepath.Join(dir, "squid.conf"))
	assert.Equal(t, 0, status, err)
	assert.Equal(t, "# /etc/squid/conf.d/a.conf:1: http_access allow ok\n*.example.com\n#@ end\n", out)
	status, _, err = sluice(t, nil, out, "acl", "check", "-")
	assert.Equal(t, 0, status, err)

	status, out, err = sluice(t, nil, "", "convert", "squid", convertData+"squid/unsaid.conf")
	assert.Equal(t, 1, status)
	assert.Contains(t, err, "unsaid.conf:13: closes: the acl work (time, line 4): rules know no time of day: http_access allow site work\n")
	assert.Contains(t, out, "203.0.113.77\n")

	status, out, err = sluice(t, nil, "", "convert", "squid", "--json", convertData+"squid/allowlist.conf")
	assert.Equal(t, 0, status, err)
	assert.Contains(t, out, `"tenants":[{"name":"clients-1","clients":["10.0.0.0/8","192.168.0.0/16"],"rules":"`)
	assert.Contains(t, out, `"effect":"none"`)

	status, out, err = sluice(t, nil, "", "convert", "haproxy", "-e", "SERVICE_TCP_PORT=13443", convertData+"others/haproxy.cfg")
	assert.Equal(t, 1, status, err)
	assert.Contains(t, out, "tcp:\n- listen: \"13443\"\n  name: orders\n")

	status, out, err = sluice(t, nil, "", "convert", "smokescreen", "--service", "none", convertData+"others/acl.smokescreen.yaml")
	assert.Equal(t, []any{2, "", "convert: " + convertData + "others/acl.smokescreen.yaml:1: there is no service \"none\"\n"}, []any{status, out, err})

	status, out, err = sluice(t, nil, "Filter \"/absent\"\n", "convert", "tinyproxy", "-")
	assert.Equal(t, []any{2, "", "convert: -:1: open /absent: no such file or directory\n"}, []any{status, out, err})

	status, out, err = sluice(t, nil, "", "convert", "squid", filepath.Join(dir, "none"))
	assert.Equal(t, []any{2, "", "convert: open " + dir + "/none: no such file or directory\n"}, []any{status, out, err})
}

// Who prints less than all does not end as if it had printed all.
func TestFullOutput(t *testing.T) {
	rules, log := write(t, "rules", "*.example.com\n"), write(t, "log", `{"method":"CONNECT","target":"a.test:443","verdict":"allow","address":"192.0.2.1:443"}`+"\n")
	squid := write(t, "squid.conf", "http_access allow all\n")
	for _, args := range [][]string{
		{"convert", "squid", squid}, {"convert", "squid", "--json", squid}, {"convert", "haproxy", "-e", "SERVICE_TCP_PORT=13443", convertData + "others/haproxy.cfg"},
		{"acl", "hash", rules}, {"acl", "diff", rules, rules}, {"acl", "suggest", "--log", log}, {"acl", "explain", "--rules", rules, "a.test:443"}, {"acl", "lint", "--json", rules}, {"acl", "test", "--rules", rules, "a.example.com:443"},
		{"version"}, {"version", "--json"}, {"migrate", "--image", "x/sluice:1", "../../internal/migrate/testdata/http-proxy.yaml"},
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		require.NoError(t, err)
		var said bytes.Buffer
		status := run(t.Context(), args, nil, streams{in: strings.NewReader(""), out: full, err: &said})
		assert.NoError(t, full.Close())
		assert.Equal(t, 2, status, args)
		assert.Contains(t, said.String(), "write /dev/full: no space left on device", args)
	}
}
