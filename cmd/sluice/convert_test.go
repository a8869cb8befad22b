package main

import (
	"os"
	"path/filepath"
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
	assert.Equal(t, "# /etc/squid/conf.d/a.conf:1: http_access allow ok\n*.example.com\n", out)
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
}
