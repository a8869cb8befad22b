package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// A gateway that runs answers as the files do, word by word, and about what it has in force.
func TestExplainLive(t *testing.T) {
	d := newProcess(t, "proxy")
	text, err := os.ReadFile(d.file())
	require.NoError(t, err)
	text = append(text, `source: 127.0.0.1
tenants:
- {name: shop, clients: 192.0.2.0/24, rules: "#@ owner=shop ticket=T-1\n!ads.example.com\n*.example.com:8443\n*.example.com\n"}
`...)
	require.NoError(t, os.WriteFile(d.file(), text, 0o600))
	d.start(nil, nil, nil)
	nettest.Eventually(t, "it is ready", func() bool { return d.status("/readyz") == 200 })
	// The gateway knows its own addresses; offline they are said.
	dns := nettest.NewDNS(t)
	dns.Set("www.example.com", nettest.Addrs("192.0.2.9", "10.0.0.1"))
	for _, args := range [][]string{
		{"ads.example.com"}, {"--from", "192.0.2.7", "ads.example.com"}, {"--from", "192.0.2.7", "www.example.com"},
		{"--from", "192.0.2.7", "www.example.com=192.0.2.9,127.0.0.1"}, {"--from", "192.0.2.7", "--json", "https://www.example.com/x"},
		{"127.1.2.3:80"}, {"--json", "[2001:db8::1]:22"}, {"--from", "a/b", "x.test"},
		{"--resolver", dns.Addr().String(), "--from", "192.0.2.7", "www.example.com"},
		{"--resolver", dns.Addr().String(), "--from", "192.0.2.7", "none.example.com"},
	} {
		status, want, errText := sluice(t, nil, "", append([]string{"acl", "explain", "--config", d.file()}, args...)...)
		require.NotEqual(t, 2, status, errText)
		live, got, errText := sluice(t, nil, "", append([]string{"acl", "explain", "--admin", "http://" + d.admin}, args...)...)
		assert.Equal(t, want, got, "%q %s", args, errText)
		assert.Equal(t, status, live, args)
	}

	was := d.metric(reloaded)
	d.put(d.rules(), func(path string) error { return os.WriteFile(path, []byte("x.test #@ owner=net\n"), 0o600) })
	nettest.Eventually(t, "it is in force", func() bool { return d.metric(reloaded) != was })
	status, out, errText := sluice(t, nil, "", "acl", "explain", "--admin", d.admin, "x.test=192.0.2.1")
	assert.Equal(t, 0, status, errText)
	assert.Contains(t, out, "by            line 1 x.test (net)\ntenant        default\n")

	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"--from: \"nobody\" is no address of a client", []string{"--admin", d.admin, "--from", "nobody", "x.test"}},
		{"target \"x y\": ", []string{"--admin", d.admin, "x y"}},
		{"--admin and --rules are both given: a gateway is asked about what it has in force; keep one of them\n", []string{"--admin", d.admin, "--rules", d.rules(), "x.test"}},
		{"--admin: \"ftp://a\" is no address; write it such as http://127.0.0.1:9090\n", []string{"--admin", "ftp://a", "x.test"}},
		{"is it where the gateway has its admin port (--admin of sluice proxy)?\n", []string{"--admin", freeAddr(t), "x.test"}},
		{" answers 404 Not Found: is it the admin port of a sluice proxy that has GET /api/explain?\n", []string{"--admin", stranger.URL, "x.test"}},
	} {
		status, out, errText := sluice(t, nil, "", append([]string{"acl", "explain"}, tt.args...)...)
		assert.Equal(t, 2, status)
		assert.Contains(t, errText, tt.want)
		assert.Empty(t, out)
	}
	assert.Equal(t, "say what is to be explained: /api/explain?target=HOST:PORT\n", d.page("/api/explain"))
	assert.Equal(t, 400, d.status("/api/explain"))
}
