//go:build linux

package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// passwordClient is a client that is told of a password for the proxy.
type passwordClient struct {
	// run asks the server, http://NAME or https://NAME, for something.
	run func(t testing.TB, password, server string) program.Output
	// want is in the output when it was got.
	want string
	// keeps says that its requests, two at least, go over one connection.
	keeps bool
}

// passwordClients are the clients of the documentation's table, by their names there, without
// versions.
func (o *outside) passwordClients(t testing.TB, mux *http.ServeMux) map[string]passwordClient {
	t.Helper()
	nettest.Need(t, "git")
	head := newRepository(t, mux)
	newAptRepository(t, mux)
	newNpmPackage(t, mux)
	classes, trust := compileJava(t), o.CA.keystore(t)
	needFile(t, "/usr/lib/python3/dist-packages/requests", "python3-requests")
	needFile(t, "/usr/share/nodejs/undici", "node-undici")

	clients := o.ownClients(head)
	// twice is a client that takes URLs as its last arguments, and gets the file two times.
	twice := func(name string, args ...string) passwordClient {
		return passwordClient{want: content, keeps: true, run: func(t testing.TB, password, server string) program.Output {
			return o.with(t, password, name, append(args[:len(args):len(args)], server+"/file", server+"/file")...)
		}}
	}
	for name, args := range map[string][]string{
		"curl":                  {"curl", "-sS"},
		"curl `-f`":             {"curl", "-sSf"},
		"wget":                  {"wget", "-nv", "-O-", "--tries=1", "--ca-certificate", o.CA.File},
		"Python requests":       {"/usr/bin/python3", "testdata/clients/requests_get.py"},
		"Node undici `request`": {"node", "testdata/clients/undici.js", "request"},
		"Node undici `fetch`":   {"node", "testdata/clients/undici.js", "fetch"},
	} {
		clients[name] = twice(args[0], args[1:]...)
	}
	const tunnelling = "-Djdk.http.auth.tunneling.disabledSchemes="
	for name, class := range map[string]string{"Java HttpClient": "HttpClientGet", "Java HttpURLConnection": "URLConnectionGet"} {
		args := []string{"-cp", classes, "-Djavax.net.ssl.trustStore=" + trust, "-Djavax.net.ssl.trustStorePassword=changeit",
			"-Dhttp.proxyHost=" + nettest.PodV4, "-Dhttp.proxyPort=8080", "-Dhttps.proxyHost=" + nettest.PodV4, "-Dhttps.proxyPort=8080"}
		clients[name] = twice("java", append(args, class)...)
		clients[name+", `"+tunnelling+"`"] = twice("java", append(args, tunnelling, class)...)
	}
	return clients
}

// ownClients are those that don't just take two URLs. head is that of the repository.
func (o *outside) ownClients(head string) map[string]passwordClient {
	return map[string]passwordClient{
		"Go net/http": {run: o.goWithPassword, want: content, keeps: true},
		"Python urllib": {want: content, run: func(t testing.TB, password, server string) program.Output {
			return o.with(t, password, "/usr/bin/python3", "-c", pythonGet, server+"/file")
		}},
		"curl `--proxy-anyauth`": {want: content, keeps: true, run: func(t testing.TB, password, server string) program.Output {
			return o.with(t, "", "curl", "-sS", "--proxy-anyauth", "--proxy-user", "agent:"+password, server+"/file", server+"/file")
		}},
		"git": {want: head, run: func(t testing.TB, password, server string) program.Output {
			return o.with(t, password, "git", "ls-remote", server+"/git/repo.git")
		}},
		"apt": {want: "Get:", keeps: true, run: func(t testing.TB, password, server string) program.Output {
			args := aptArgs(t, t.TempDir(), o.CA.File, server+"/apt/")
			for i := range args {
				args[i] = strings.Replace(args[i], "="+proxyURL, "=http://agent:"+password+"@"+nettest.PodV4+":8080", 1)
			}
			return program.Command(t, o.Client, nil, "env", append(args, "update")...)
		}},
		"npm": {want: content, keeps: true, run: func(t testing.TB, password, server string) program.Output {
			dir := t.TempDir()
			got := o.with(t, password, "npm", "install", "--prefix="+dir, "--registry="+server+"/npm/", "--cafile="+o.CA.File, "--cache="+filepath.Join(dir, "cache"),
				"--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=0", "sluice-test")
			installed, _ := os.ReadFile(filepath.Join(dir, "node_modules", "sluice-test", "file.txt")) // absent when it failed
			got.Out += string(installed)
			return got
		}},
	}
}

// goWithPassword is net/http in the client pod.
func (o *outside) goWithPassword(t testing.TB, password, server string) (got program.Output) {
	pem, err := os.ReadFile(o.CA.File)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	tr := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("agent", password), Host: nettest.PodV4 + ":8080"}),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return o.Client.DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	defer tr.CloseIdleConnections()
	for range 2 {
		resp, err := (&http.Client{Transport: tr}).Get(server + "/file")
		if err != nil {
			return program.Output{Err: err.Error(), Status: 1}
		}
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		got.Out += string(body)
		if resp.StatusCode != 200 {
			got.Err, got.Status = resp.Status, 1
		}
	}
	return got
}

// compileJava compiles the clients in Java, and returns the folder of their classes.
func compileJava(t testing.TB) (classes string) {
	t.Helper()
	classes = t.TempDir()
	sources, err := filepath.Glob("testdata/clients/*.java")
	require.NoError(t, err)
	succeed(t, nil, "javac", append([]string{"-d", classes}, sources...)...)
	return classes
}

// keystore has the authority's certificate as Java wants it.
func (a *authority) keystore(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ca.p12")
	succeed(t, nil, "keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", a.File, "-keystore", path, "-storepass", "changeit")
	return path
}

// needFile skips the test like [nettest.Need] when a library is not installed.
func needFile(t testing.TB, path, pkg string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		nettest.Unavailable(t, pkg+" is not installed")
	}
}

// newName is a name of its own for the server of a test.
func (o *outside) newName() string {
	name := fmt.Sprintf("n%d.example.com", o.names.Add(1))
	o.DNS.Set(name, nettest.Addrs(nettest.ServerAV4))
	return name
}

// documentedClient is a row of the table of clients: what is said for http and for https.
type documentedClient struct{ sends, wrong [2]string }

// documentedClients are the rows of docs/tenants.md, by name without versions.
func documentedClients(t testing.TB) map[string]documentedClient {
	t.Helper()
	_, table, ok := strings.Cut(docs.Section(t, "../../docs/tenants.md", "### What clients do"), "\n| client | ")
	require.True(t, ok)
	rows := map[string]documentedClient{}
	version := regexp.MustCompile(` \d[0-9.]*`)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || strings.Contains(line, "---") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows[version.ReplaceAllString(cells[0], "")] = documentedClient{[2]string{cells[1], cells[2]}, [2]string{cells[3], cells[4]}}
	}
	require.NotEmpty(t, rows)
	return rows
}
