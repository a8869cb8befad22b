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

// sandbox is a configuration in which nobody may anything but a user, who may what an agent
// needs.
const sandbox = `source: [` + nettest.SourceV4 + `, ` + nettest.SourceV6 + `]
resolver: ` + nettest.NodeV4 + `
tenants:
- name: sandbox
  users: agent
  rules: |
    !` + deniedHost + `
    *.example.com
`

// withPassword is the environment of a client that gives a password to the proxy.
func withPassword(password string) (env []string) {
	url := "http://agent:" + password + "@" + nettest.PodV4 + ":8080"
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY"} {
		env = append(env, name+"="+url)
	}
	return env
}

// Real clients come through a 407, whether they send their password at once or when they are
// asked; with a wrong one they don't, and nobody outside sees any of it.
func TestClientsWithAPassword(t *testing.T) {
	nettest.Need(t, "git")
	o, mux := newServers(t)
	head := newRepository(t, mux)
	newAptRepository(t, mux)
	mux.HandleFunc("/heads", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.Header) })
	clients := map[string]func(password, scheme string) program.Output{
		"curl": func(password, scheme string) program.Output {
			return o.with(t, password, "curl", "-sSf", "--cacert", o.CA.File, scheme+allowedHost+"/file")
		},
		"curl, asked first": func(password, scheme string) program.Output {
			return program.Command(t, o.Client, nil, "curl", "-sSf", "--proxy-anyauth", "--proxy-user", "agent:"+password, "-x", proxyURL, "--cacert", o.CA.File, scheme+allowedHost+"/file")
		},
		"wget": func(password, scheme string) program.Output {
			return o.with(t, password, "wget", "-qO-", "--tries=1", "--ca-certificate", o.CA.File, scheme+allowedHost+"/file")
		},
		"python": func(password, scheme string) program.Output {
			return o.with(t, password, "/usr/bin/python3", "-c", pythonGet, scheme+allowedHost+"/file")
		},
		"git": func(password, scheme string) program.Output {
			return o.with(t, password, "git", "ls-remote", scheme+allowedHost+"/git/repo.git")
		},
		"apt": func(password, scheme string) program.Output {
			args := aptArgs(t, t.TempDir(), o.CA.File, scheme+allowedHost+"/apt/")
			for i := range args {
				args[i] = strings.Replace(args[i], "="+proxyURL, "=http://agent:"+password+"@"+nettest.PodV4+":8080", 1)
			}
			return program.Command(t, o.Client, nil, "env", append(args, "update")...)
		},
	}
	want := map[string]string{"git": head, "apt": "Packages"}
	for _, mode := range []string{"optional", "required"} {
		users := htpasswd(t, filepath.Join(t.TempDir(), "users"), "agent", sandboxPassword)
		g := start(t, program.Setup{Netns: o.Egress, Config: "authenticate: " + mode + "\nusersFile: " + users + "\n" + sandbox})
		for name, run := range clients {
			for _, scheme := range []string{"http://", "https://"} {
				t.Run(mode+" "+name+" "+scheme, func(t *testing.T) {
					got := run(sandboxPassword, scheme)
					expected := want[name]
					if expected == "" {
						expected = content
					}
					require.Zero(t, got.Status, got.Err)
					assert.Contains(t, got.Out, expected)
					got = run("wrong", scheme)
					if name == "apt" { // which only warns, and names all files that it wanted
						assert.Contains(t, got.Err+got.Out, "Proxy Authentication Required: wrong credentials")
						return
					}
					assert.NotZero(t, got.Status)
					assert.NotContains(t, got.Out, expected)
				})
			}
		}
		for _, scheme := range []string{"http://", "https://"} {
			got := o.with(t, sandboxPassword, "curl", "-sS", "--cacert", o.CA.File, "-H", "Proxy-Authorization: Basic eDp5", scheme+allowedHost+"/heads")
			assert.NotContains(t, got.Out, "Authorization: Basic YW", "what the client shows goes no further")
			nobody := o.curl(t, scheme+allowedHost+"/file")
			assert.Equal(t, "HTTP/1.1 407 Proxy Authentication Required", strings.SplitN(statusLine(nobody.Out), ":", 2)[0])
			denied := o.with(t, sandboxPassword, "curl", "-sSi", "--cacert", o.CA.File, scheme+deniedHost+"/")
			assert.Equal(t, "HTTP/1.1 403 Egress denied: line 9 !"+deniedHost, statusLine(denied.Out), denied.Err)
		}
		nettest.Eventually(t, "the log has who was refused", func() bool { return strings.Contains(strings.Join(g.AccessLog(), ""), `"status":407`) })
		said := strings.Join(g.AccessLog(), "\n") + g.Stderr()
		assert.Contains(t, said, `"tenant":"sandbox","user":"agent"`)
		assert.NotContains(t, said, sandboxPassword)
		// A password that is changed is another at once, for what comes from now on.
		htpasswd(t, users, "agent", "another")
		nettest.Eventually(t, "the old password is none any more", func() bool {
			return o.with(t, sandboxPassword, "curl", "-sSf", "--cacert", o.CA.File, "http://"+allowedHost+"/file").Status != 0
		})
		assert.Zero(t, o.with(t, "another", "curl", "-sSf", "--cacert", o.CA.File, "http://"+allowedHost+"/file").Status)
		g.Signal(15)
		g.Exit()
	}
}

// with is a client whose proxy's URL has a password.
func (o *outside) with(t testing.TB, password, name string, args ...string) program.Output {
	t.Helper()
	env := append(append([]string{"SSL_CERT_FILE=" + o.CA.File, "GIT_SSL_CAINFO=" + o.CA.File}, gitEnv...), withPassword(password)...)
	return program.Command(t, o.Client, env, name, args...)
}
