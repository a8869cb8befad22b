//go:build linux

package http

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const (
	trusted = "https://api.example.com"   // inspected
	blind   = "https://other.example.com" // not inspected: its certificate is the server's
)

// trustClient is a program by a script of sh, which runs in a folder with ca.crt, bundle.crt and cacerts. The
// table's cell is run in front of it, or stands in the place of CELL in it.
type trustClient struct {
	get    string // from both hosts, where a program takes more than one URL
	want   string // in the output
	denied string // asks for what no rule allows
	reason string // in the output then
	wrong  string // in the output of get without the table's cell
}

const (
	nodeClient   = "NODE_PATH=/usr/share/nodejs node $clients/undici.js fetch "
	pythonClient = `/usr/bin/python3 -c 'import sys, urllib.request
for url in sys.argv[1:]: print(urllib.request.urlopen(url, timeout=60).read().decode())' `
	pipClient  = "PIP_CONFIG_FILE=/dev/null /usr/bin/python3 -m pip --disable-pip-version-check --no-cache-dir --retries=0 download --no-deps --dest=wheels --index-url="
	npmClient  = "npm install --prefix=$PWD/npm --cache=$PWD/npm-cache --no-audit --no-fund --no-update-notifier --fetch-retries=0 --registry="
	goClient   = "mkdir -p go && cd go && GOMODCACHE=$PWD/cache GOFLAGS=-modcacherw GOTOOLCHAIN=local GOSUMDB=off GOPROXY="
	javaClient = "java -cp $classes -Dhttps.proxyHost=" + nettest.PodV4 + " -Dhttps.proxyPort=8080 HttpClientGet "
	container  = "mount -t tmpfs tmpfs /mnt && podman --root=/mnt/root --runroot=/mnt/run run --rm --quiet --network=host --rootfs --env https_proxy CELL /:O curl -sS "
	browser    = "chromium --headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --user-data-dir=$PWD/profile --proxy-server=$https_proxy --dump-dom "
)

// trustClients are those of the documentation's table.
func trustClients() map[string]trustClient {
	const saw, reason = "server-a saw " + nettest.SourceV4, "Egress denied: request rule "
	both := " " + trusted + "/ " + blind + "/"
	const denied = " " + trusted + "/denied"
	return map[string]trustClient{
		"Debian, Ubuntu": {get: "curl -sSf" + both + " && git ls-remote " + trusted + "/git/repo.git && " + pythonClient + both +
			" && /usr/bin/python3 $clients/requests_get.py" + both + " && " + javaClient + both + " && (" + goClient + trusted + "/go go mod download sluice.test/module@v1.0.0)", want: saw,
			denied: "wget -O- --tries=1" + denied, reason: "ERROR 403: " + reason, wrong: "self-signed certificate in certificate chain"},
		"curl":               {get: "curl -sSf" + both, want: saw, denied: "curl -sS" + denied, reason: "Decided by:   request rule ", wrong: "self-signed certificate in certificate chain"},
		"git":                {get: "git ls-remote " + trusted + "/git/repo.git", want: "refs/heads/main", denied: "git ls-remote" + denied, reason: "remote: Decided by:   request rule ", wrong: "certificate verification failed"},
		"Python requests":    {get: "/usr/bin/python3 $clients/requests_get.py" + both, want: saw, denied: "/usr/bin/python3 $clients/requests_get.py" + denied, reason: "403 Client Error: " + reason, wrong: "CERTIFICATE_VERIFY_FAILED"},
		"pip":                {get: pipClient + trusted + "/simple sluice-test", want: "Saved ./wheels/sluice_test", denied: pipClient + trusted + "/denied -vv sluice-test", reason: "403 Client Error: " + reason, wrong: "CERTIFICATE_VERIFY_FAILED"},
		"Python urllib, ssl": {get: pythonClient + both, want: saw, denied: pythonClient + denied, reason: "HTTP Error 403: " + reason, wrong: "CERTIFICATE_VERIFY_FAILED"},
		"Node":               {get: nodeClient + trusted + "/", want: saw, denied: nodeClient + denied, reason: "Decided by:   request rule ", wrong: "SELF_SIGNED_CERT_IN_CHAIN"},
		"npm":                {get: npmClient + trusted + "/npm/ sluice-test", want: "added 1 package", denied: npmClient + trusted + "/denied/ sluice-test", reason: "403 " + reason, wrong: "SELF_SIGNED_CERT_IN_CHAIN"},
		"Go":                 {get: goClient + trusted + "/go go mod download -json sluice.test/module@v1.0.0", want: `"Zip": `, denied: goClient + trusted + "/denied go mod download sluice.test/module@v1.0.1", reason: "server response: sluice: 403 Egress denied", wrong: "certificate signed by unknown authority"},
		"Java":               {get: javaClient + both, want: saw, denied: javaClient + denied, reason: "Decided by:   request rule ", wrong: "unable to find valid certification path"},
		"a container":        {get: container + both, want: saw, denied: container + denied, reason: "Decided by:   request rule ", wrong: "self-signed certificate in certificate chain"},
		"Chromium":           {get: browser + trusted + "/", want: saw, denied: browser + denied, reason: "<dt>Decided by</dt><dd>request rule ", wrong: "CERT_AUTHORITY_INVALID"},
	}
}

// Each client of the table trusts the CA by what stands there; it gets what it may, and tells its user
// why it does not get the rest.
func TestClientsTrustTheCA(t *testing.T) {
	for _, name := range []string{"git", "npm", "node", "java", "keytool", "podman", "chromium", "certutil", "wget"} {
		nettest.Need(t, name)
	}
	needFile(t, "/usr/lib/python3/dist-packages/requests", "python3-requests")
	needFile(t, "/usr/share/nodejs/undici", "node-undici")
	o := newInspected(t, "\n  - host: api.example.com\n    requests: |\n      !* /denied**\n      *\n")
	trustContent(t, o.mux)
	classes, jks := compileJava(t), o.outside.CA.keystore(t)
	clients, err := filepath.Abs("testdata/clients")
	require.NoError(t, err)
	_, table, ok := strings.Cut(docs.Section(t, "../../docs/inspect.md", "## How clients trust the CA"), "\n| client |")
	require.True(t, ok)
	all := trustClients()
	rows := regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1)
	assert.Len(t, rows, len(all), "a row of the table for each of them")
	for _, row := range rows {
		c, ok := all[row[1]]
		require.True(t, ok, "nothing tries %s", row[1])
		t.Run(row[1], func(t *testing.T) {
			t.Parallel()
			env := append([]string{"clients=" + clients, "classes=" + classes, "roots=" + o.outside.CA.File}, proxyEnv...)
			run := func(cell, command string) program.Output {
				script := "cd " + o.trustFiles(t, jks) + "\n"
				if strings.Contains(command, "CELL") {
					command = "export CONTAINERS_CONF=$PWD/containers.conf; " + strings.ReplaceAll(command, "CELL", cell)
				} else {
					script += cell + "\n"
				}
				return program.Command(t, o.Client, env, "unshare", "-m", "sh", "-ec", ownRoots+script+command)
			}
			got := run(row[2], c.get)
			require.Equal(t, 0, got.Status, got.Out+got.Err)
			assert.Contains(t, got.Out, c.want, got.Err)
			got = run(row[2], c.denied)
			assert.Contains(t, got.Out+got.Err, c.reason)
			got = run("", c.get)
			assert.Contains(t, got.Out+got.Err, c.wrong)
			assert.NotContains(t, got.Out, c.want)
		})
	}
}

// ownRoots gives a script roots of its own, of which none is changed outside of it.
const ownRoots = `
mount -t tmpfs tmpfs /usr/local/share/ca-certificates
certs=$(mktemp -d) && cp -a /etc/ssl/certs/. $certs && mount --bind $certs /etc/ssl/certs
cp $roots /usr/local/share/ca-certificates/servers.crt
`

// trustFiles is a folder with what the documentation has there: the servers' CA stands for the
// system's roots.
func (o *inspected) trustFiles(t testing.TB, keystore string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	own, err := os.ReadFile(o.CA)
	require.NoError(t, err)
	roots, err := os.ReadFile(o.outside.CA.File)
	require.NoError(t, err)
	stored, err := os.ReadFile(keystore)
	require.NoError(t, err)
	o.write(t, filepath.Join(dir, "cacerts"), string(stored))
	o.write(t, filepath.Join(dir, "containers.conf"), containersConf)
	o.write(t, filepath.Join(dir, "ca.crt"), string(own))
	o.write(t, filepath.Join(dir, "bundle.crt"), string(roots)+string(own))
	return dir
}

// trustContent is what the clients ask for.
func trustContent(t testing.TB, mux *http.ServeMux) {
	t.Helper()
	newNpmPackage(t, mux)
	newWheel(t, mux, "", "")
	newModule(t, mux, "/go")
	mux.HandleFunc("/git/repo.git/info/refs", func(w http.ResponseWriter, _ *http.Request) { // as plain files are served
		_, _ = io.WriteString(w, strings.Repeat("a", 40)+"\trefs/heads/main\n")
	})
	mux.HandleFunc("/git/repo.git/HEAD", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ref: refs/heads/main\n") })
}

// containersConf is for machines where a process may not raise its limits, and any version of control groups.
const containersConf = `[containers]
default_ulimits=["nofile=20000:20000","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
`
