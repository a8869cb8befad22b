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

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The sandbox of the documentation, as it stands there: its ten names are reached, on their
// ports, and nothing else is.
func TestDocumentedSandbox(t *testing.T) {
	nettest.Need(t, "htpasswd")
	section := docs.Section(t, "../../docs/tenants.md", "### An agent's sandbox")
	config, shell := docs.Blocks(section, "yaml")[0], docs.Blocks(section, "sh")
	require.Equal(t, "sluice proxy --config sluice.yaml\n", shell[1])
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sluice.yaml"), []byte(config), 0o600))
	succeed(t, nil, "sh", "-ec", "cd "+dir+"\n"+shell[0])

	o := &outside{Topology: nettest.NewTopology(t), CA: newAuthority(t)}
	o.DNS = o.Topology.DNS(t)
	o.serveAt(t, o.ServerA, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from "+r.Host)
	}), nettest.ServerAV4, nettest.ServerAV6)
	var allowed []string
	_, rules, _ := strings.Cut(config, "rules: |\n")
	for _, rule := range strings.Fields(rules) {
		name, port, _ := strings.Cut(rule, ":")
		o.DNS.Set(name, nettest.Addrs(nettest.ServerAV4, nettest.ServerAV6))
		allowed = append(allowed, map[string]string{"80": "http://", "443": "https://"}[port]+name+"/")
	}
	require.Len(t, allowed, 10)
	o.DNS.Set("telemetry.example.com", nettest.Addrs(nettest.ServerAV4, nettest.ServerAV6))

	g := start(t, program.Setup{Netns: o.Egress, Bare: true, Env: []string{"SLUICE_RESOLVER=" + nettest.NodeV4},
		Args: []string{"proxy", "--config", filepath.Join(dir, "sluice.yaml")}})
	inSandbox := func(_, script string) string {
		script = strings.ReplaceAll(script, "@sluice:8080", "@"+nettest.PodV4+":8080")
		script = strings.ReplaceAll(script, "http://sluice:8080", proxyURL)
		return program.Command(t, o.Client, []string{"CURL_CA_BUNDLE=" + o.CA.File}, "sh", "-c", "cd "+dir+"\n"+script).Out
	}
	console := docs.Blocks(section, "console")[0]
	docs.Replay(t, console, inSandbox)
	export, _, _ := strings.Cut(strings.TrimPrefix(console, "$ "), "\n")
	for _, url := range allowed {
		host := strings.Trim(url[strings.Index(url, "//"):], "/")
		assert.Equal(t, "hello from "+host+"\n", inSandbox("", export+"\ncurl -sS "+url))
	}
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	require.NoError(t, err)
	nettest.Eventually(t, "the log has it", func() bool { return strings.Count(g.Stdout(), "\n") >= 15 })
	assert.NotContains(t, g.Stdout()+g.Stderr(), strings.TrimSpace(string(password)))
}
