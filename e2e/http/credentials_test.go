//go:build linux

package http

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const sandboxPassword = "corr3ct-horse"

// htpasswd writes a usersFile with one user, and returns its path.
func htpasswd(t testing.TB, path, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(fmt.Sprintf("# sandboxes\n%s:%s\n", user, hash)), 0o600))
	return path
}

// sandbox is a configuration in which pods may reach one name, and a user what an agent needs.
const sandbox = `source: [` + nettest.SourceV4 + `, ` + nettest.SourceV6 + `]
resolver: ` + nettest.NodeV4 + `
tenants:
- name: sandbox
  users: agent
  rules: |
    !` + deniedHost + `
    *.example.com
- name: pods
  clients: 10.128.0.0/24
  rules: ` + openHost + `
`

const openHost = "open.example.com"

// withPassword is the environment of a client that gives a password to the proxy.
func withPassword(password string) (env []string) {
	url := "http://agent:" + password + "@" + nettest.PodV4 + ":8080"
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY"} {
		env = append(env, name+"="+url)
	}
	return env
}

// Real clients come through a 407, in both modes and by GET and CONNECT, as the table of the
// documentation says of each: when it sends its password, and what it shows when that is
// wrong. Nobody else sees any of it.
func TestClientsWithAPassword(t *testing.T) {
	secrets := &listener{}
	o, mux := newServers(t, secrets.hear)
	clients := o.passwordClients(t, mux)
	rows := documentedClients(t)
	for _, mode := range []string{"optional", "required"} {
		users := htpasswd(t, filepath.Join(t.TempDir(), "users"), "agent", sandboxPassword)
		g := start(t, program.Setup{Netns: o.Egress, Args: []string{"--pprof"},
			Config: "authenticate: " + mode + "\nusersFile: " + users + "\n" + sandbox})
		for name, client := range clients {
			row, ok := rows[name]
			require.True(t, ok, "the table has no %s", name)
			for i, scheme := range []string{"http://", "https://"} {
				t.Run(mode+" "+name+" "+scheme, func(t *testing.T) {
					o.asTheTableSays(t, g, client, scheme, row.sends[i], row.wrong[i])
				})
			}
		}
		o.modeOf(t, mode)
		secrets.areNowhere(t, g)
		// A password that is changed is another at once, for what comes from now on.
		htpasswd(t, users, "agent", "another")
		nettest.Eventually(t, "the old password is none any more", func() bool {
			return o.with(t, sandboxPassword, "curl", "-sSf", "http://"+allowedHost+"/file").Status != 0
		})
		assert.Zero(t, o.with(t, "another", "curl", "-sSf", "http://"+allowedHost+"/file").Status)
		g.Signal(15)
		g.Exit()
	}
	for name := range rows {
		assert.Contains(t, clients, name, "of the table")
	}
}

// asTheTableSays runs a client with the right password and with a wrong one, each against a
// name of its own, by which its lines in the access log are known.
func (o *outside) asTheTableSays(t *testing.T, g *gateway, client passwordClient, scheme, sends, wrong string) {
	t.Helper()
	host := o.newName()
	got := client.run(t, sandboxPassword, scheme+host)
	said := fmt.Sprintf("exit %d\n%s\n%s", got.Status, got.Out, got.Err)
	if strings.HasPrefix(sends, "never") {
		nettest.Eventually(t, "it is refused", func() bool { return seen(g, host).statuses[407] > 0 })
		assert.Zero(t, seen(g, host).statuses[200], "%s\n%s", seen(g, host), said)
		assert.NotContains(t, got.Out, client.want)
	} else {
		require.Contains(t, got.Out, client.want, said)
		require.Zero(t, got.Status, said)
		nettest.Eventually(t, "the log has it", func() bool { return seen(g, host).statuses[200] > 0 })
		trace := seen(g, host)
		assert.Equal(t, strings.HasPrefix(sends, "after the 407"), trace.statuses[407] > 0, "%s\n%s", sends, trace)
		if client.keeps && trace.method == "GET" {
			nettest.Eventually(t, "a connection carries several requests", func() bool { return seen(g, host).kept })
		}
		want := "GET"
		if scheme == "https://" || strings.HasSuffix(sends, "by CONNECT") {
			want = "CONNECT"
		}
		assert.Equal(t, want, trace.method)
	}

	host = o.newName()
	got = client.run(t, "wr0ng-horse", scheme+host)
	said = fmt.Sprintf("exit %d\n%s\n%s", got.Status, got.Out, got.Err)
	for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(wrong, -1) {
		assert.Contains(t, said, quoted[1])
	}
	if exit := regexp.MustCompile(`exit \d+`).FindString(wrong); exit != "" {
		assert.Equal(t, exit, strings.SplitN(said, "\n", 2)[0], said)
	}
	assert.NotContains(t, got.Out, client.want)
	nettest.Eventually(t, "the log has it", func() bool { return seen(g, host).statuses[407] > 0 })
	assert.Zero(t, seen(g, host).statuses[200], "%s", seen(g, host))
}

// modeOf is what optional and required have apart: who shows nothing may what its address
// may, or nothing.
func (o *outside) modeOf(t *testing.T, mode string) {
	t.Helper()
	o.DNS.Set(openHost, nettest.Addrs(nettest.ServerAV4))
	for _, scheme := range []string{"http://", "https://"} {
		ask := func(password, host string) string {
			got := o.with(t, password, "curl", "-sSi", scheme+host+"/file")
			return statusLine(got.Out)
		}
		const asked = "HTTP/1.1 407 Proxy Authentication Required"
		assert.Contains(t, ask("", allowedHost), asked, "a password might lift that")
		assert.Contains(t, ask("wr0ng-horse", openHost), asked, "its address alone would do, but what it shows is wrong")
		if mode == "optional" {
			assert.Contains(t, ask("", openHost), "HTTP/1.1 200 ")
		} else {
			assert.Contains(t, ask("", openHost), asked)
		}
		assert.Equal(t, "HTTP/1.1 403 Egress denied: line 9 !"+deniedHost, ask(sandboxPassword, deniedHost))
	}
}

// trace is what the access log has of a name.
type trace struct {
	method   string // of the first that was allowed
	statuses map[int]int
	kept     bool // a connection of the client served several requests that were allowed
	lines    []string
}

func (s trace) String() string { return strings.Join(s.lines, "\n") }

func seen(g *gateway, host string) trace {
	s := trace{statuses: map[int]int{}}
	served := map[string]int{}
	for _, line := range g.AccessLog() {
		if !strings.Contains(line, host) {
			continue
		}
		var r struct {
			Client, Method string
			Status         int
		}
		if json.Unmarshal([]byte(line), &r) != nil {
			continue // it is being written
		}
		s.lines = append(s.lines, line)
		s.statuses[r.Status]++
		if r.Status == 200 {
			served[r.Client]++
			s.kept = s.kept || served[r.Client] > 1
			if s.method == "" {
				s.method = r.Method
			}
		}
	}
	return s
}

// listener keeps the heads of all requests that reach the servers, but those of apt in a tunnel.
type listener struct {
	mu    sync.Mutex
	heads strings.Builder
	byApt bool // apt has told a server the password, inside TLS, where nobody can keep it from that
}

func (l *listener) hear(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		if r.TLS != nil && strings.HasPrefix(r.UserAgent(), "Debian APT") {
			l.byApt = l.byApt || r.Header.Get("Proxy-Authorization") != ""
		} else {
			fmt.Fprintln(&l.heads, r.Method, r.Host, r.URL, r.Header)
		}
		l.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// areNowhere wants no password in what servers heard, in what the program has written and in
// any page of its admin port.
func (l *listener) areNowhere(t *testing.T, g *gateway) {
	t.Helper()
	l.mu.Lock()
	places := map[string]string{"a server": l.heads.String()}
	assert.True(t, l.byApt, "the documentation warns of it")
	l.mu.Unlock()
	require.Contains(t, places["a server"], "User-Agent")
	assert.NotContains(t, places["a server"], "Authorization")
	places["the access log"], places["standard error"] = g.Stdout(), g.Stderr()
	assert.Contains(t, places["the access log"], `"tenant":"sandbox","user":"agent"`)
	_, index := g.Ask("/debug/pprof/")
	pages := regexp.MustCompile(`/debug/pprof/\S+`).FindAllString(index, -1)
	require.Greater(t, len(pages), 5, index)
	for _, page := range append(pages, "/", "/metrics", "/healthz", "/readyz", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap") {
		status, text := g.Ask(strings.Replace(page, "seconds=30", "seconds=1", 1))
		require.Equal(t, 200, status, page)
		places[page] = text
	}
	for place, text := range places {
		for _, password := range []string{sandboxPassword, "wr0ng-horse"} {
			assert.NotContains(t, text, password, place)
			assert.NotContains(t, text, base64.StdEncoding.EncodeToString([]byte("agent:"+password)), place)
		}
	}
}

// with is a client whose proxy's URL has a password, if that is not empty.
func (o *outside) with(t testing.TB, password, name string, args ...string) program.Output {
	t.Helper()
	env := append([]string{"SSL_CERT_FILE=" + o.CA.File, "GIT_SSL_CAINFO=" + o.CA.File, "CURL_CA_BUNDLE=" + o.CA.File, "REQUESTS_CA_BUNDLE=" + o.CA.File,
		"NODE_PATH=/usr/share/nodejs", "PROXY_PASSWORD=" + password}, gitEnv...)
	if password == "" {
		return program.Command(t, o.Client, append(env, proxyEnv...), name, args...)
	}
	return program.Command(t, o.Client, append(env, withPassword(password)...), name, args...)
}
