//go:build linux

package http

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const (
	socksAddr = nettest.PodV4 + ":1080"
	sshHost   = "ssh.example.com"
	sshPort   = "2222"
)

// sshd runs a server of SSH in server A's place, with a repository of git, and returns the
// options by which a client is let in, and the repository's path and head.
func (o *outside) sshd(t testing.TB, port string) (options []string, repo, head string) {
	t.Helper()
	for _, p := range []string{"ssh", "/usr/sbin/sshd", "ssh-keygen", "nc", "git"} {
		nettest.Need(t, p)
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	for _, key := range []string{"host", "client"} {
		succeed(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
	}
	public, err := os.ReadFile(filepath.Join(dir, "client.pub"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "authorized"), public, 0o600))
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	conf := filepath.Join(dir, "sshd_config")
	require.NoError(t, os.WriteFile(conf, []byte(fmt.Sprintf("Port %s\nHostKey %[2]s/host\nAuthorizedKeysFile %[2]s/authorized\nPidFile none\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n", port, dir)), 0o600))
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", conf)
	require.NoError(t, o.ServerA.Start(cmd))
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

	work, repo := filepath.Join(dir, "work"), filepath.Join(dir, "repo.git")
	succeed(t, gitEnv, "git", "init", "-q", "-b", "main", work)
	require.NoError(t, os.WriteFile(filepath.Join(work, "file"), []byte(content), 0o600))
	succeed(t, gitEnv, "git", "-C", work, "add", "file")
	succeed(t, gitEnv, "git", "-C", work, "commit", "-q", "-m", "A file")
	succeed(t, gitEnv, "git", "clone", "-q", "--bare", work, repo)
	options = []string{"-F", "none", "-i", filepath.Join(dir, "client"), "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"}
	return options, repo, succeed(t, gitEnv, "git", "-C", work, "rev-parse", "HEAD")
}

// socksConfig has clients of SOCKS beside those of HTTP; what they may reach is behind it.
const socksConfig = `source: [` + nettest.SourceV4 + `, ` + nettest.SourceV6 + `]
resolver: ` + nettest.NodeV4 + `
listenSOCKS: ":1080"
`

// curl and ssh, and git over it, by SOCKS: names, addresses, and what is denied.
func TestSOCKSClients(t *testing.T) {
	o, _ := newServers(t)
	options, repo, head := o.sshd(t, sshPort)
	o.DNS.Set(sshHost, nettest.Addrs(nettest.ServerAV4))
	g := start(t, program.Setup{Netns: o.Egress, Config: socksConfig + "rules: |\n  !" + deniedHost + "\n  *.example.com\n  203.0.113.0/24\n  2001:db8:2::/64\n"})
	curl := func(args ...string) program.Output {
		return program.Command(t, o.Client, nil, "curl", append([]string{"-sSv", "--cacert", o.CA.File}, args...)...)
	}
	for _, scheme := range []string{"http://", "https://"} {
		for _, host := range []string{allowedHost, nettest.ServerAV4, "[" + nettest.ServerAV6 + "]"} {
			got := curl("--socks5-hostname", socksAddr, scheme+host+"/file")
			assert.Equal(t, content, got.Out, got.Err)
		}
		got := curl("--socks5", socksAddr, "--resolve", allowedHost+":443:"+nettest.ServerAV4, "--resolve", allowedHost+":80:"+nettest.ServerAV4, scheme+allowedHost+"/file")
		assert.Equal(t, content, got.Out, "by its address: %s", got.Err)
		got = curl("--socks5-hostname", socksAddr, scheme+deniedHost+"/file")
		assert.Equal(t, 97, got.Status, got.Err)
		assert.Contains(t, got.Err, "(2)", "connection not allowed by ruleset")
	}
	got := curl("--socks5-hostname", socksAddr, "http://none.example.com/")
	assert.Contains(t, got.Err, "(4)", "host unreachable")
	got = curl("--socks5-hostname", socksAddr, "http://"+allowedHost+":9/")
	assert.Contains(t, got.Err, "(5)", "connection refused")

	me, err := user.Current()
	require.NoError(t, err)
	ssh := func(host string) program.Output {
		args := append(append([]string{}, options...), "-o", "ProxyCommand=nc -X 5 -x "+socksAddr+" %h %p", me.Username+"@"+host, "echo it works")
		return program.Command(t, o.Client, nil, "ssh", args...)
	}
	nettest.Eventually(t, "ssh is there", func() bool { got = ssh(sshHost); return got.Status == 0 })
	assert.Equal(t, "it works\n", got.Out, got.Err)
	assert.NotZero(t, ssh(deniedHost).Status)
	command := "ssh " + strings.Join(options, " ") + " -o 'ProxyCommand=nc -X 5 -x " + socksAddr + " %h %p'"
	env := append([]string{"GIT_SSH_COMMAND=" + command}, gitEnv...)
	clone := filepath.Join(t.TempDir(), "clone")
	got = program.Command(t, o.Client, env, "git", "clone", "-q", me.Username+"@"+sshHost+":"+repo, clone)
	require.Zero(t, got.Status, got.Err)
	assert.Equal(t, head, succeed(t, gitEnv, "git", "-C", clone, "rev-parse", "HEAD"))

	all := ""
	defer func() {
		if t.Failed() {
			t.Log(all)
		}
	}()
	nettest.Eventually(t, "the log says what by", func() bool {
		all = strings.Join(g.AccessLog(), "\n")
		return strings.Contains(all, `"method":"CONNECT","target":"`+sshHost+":"+sshPort+`","protocol":"socks5","verdict":"allow"`) &&
			strings.Contains(all, `"target":"`+deniedHost+`:443","protocol":"socks5","verdict":"deny","reason":"line 5 !`+deniedHost+`"`)
	})
}

// A user and a password by RFC 1929, as curl sends them: that is whose rules hold.
func TestSOCKSLogins(t *testing.T) {
	o, _ := newServers(t)
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users"), []byte("deploy:"+string(hash)+"\n"), 0o600))
	start(t, program.Setup{Netns: o.Egress, Config: socksConfig + "authenticate: required\nusersFile: " + dir + "/users\ntenants:\n- {name: deploys, users: [deploy], rules: '" + allowedHost + "'}\n"})
	for password, want := range map[string]int{"deploy:secret": 0, "deploy:wrong": 97, "nobody:secret": 97, "": 97} {
		args := []string{"-sS", "--cacert", o.CA.File, "--socks5-hostname", socksAddr, "https://" + allowedHost + "/file"}
		if password != "" {
			args = append(args, "--proxy-user", password)
		}
		got := program.Command(t, o.Client, nil, "curl", args...)
		assert.Equal(t, want, got.Status, "%s: %s", password, got.Err)
	}
}

// Real clients through a gateway that enforces what tunnels begin with, and those that ask for
// one thing and say another.
func TestTunnelCheckClients(t *testing.T) {
	o, _ := newServers(t)
	options, _, _ := o.sshd(t, sshPort)
	o.DNS.Set(sshHost, nettest.Addrs(nettest.ServerAV4))
	for _, mode := range []string{"enforce", "log"} {
		t.Run(mode, func(t *testing.T) {
			g := start(t, program.Setup{Netns: o.Egress, Config: socksConfig + "tunnelCheck: " + mode + "\nrules: |\n  !" + deniedHost + "\n  " + allowedHost + ":443\n  " + allowedHost + "\n  " + sshHost + " #@ protocol=ssh\n  203.0.113.0/24\n"})
			enforces := mode == "enforce"
			for _, by := range [][]string{{"-x", proxyURL}, {"--socks5-hostname", socksAddr}} {
				curl := func(args ...string) program.Output {
					return program.Command(t, o.Client, nil, "curl", append(append([]string{"-sS", "--proxytunnel", "--cacert", o.CA.File}, by...), args...)...)
				}
				got := curl("https://" + allowedHost + "/file")
				assert.Equal(t, content, got.Out, got.Err)
				got = curl("--tls-max", "1.2", "https://"+nettest.ServerAV4+"/file")
				assert.Equal(t, content, got.Out, "an address, and no name: %s", got.Err)
				// The tunnel's target is what connect-to says; the name is the URL's.
				for what, to := range map[string]string{"a name": allowedHost, "an address": nettest.ServerAV4} {
					got = curl("--connect-to", "::"+to+":443", "https://"+deniedHost+"/file")
					assert.Equal(t, enforces, got.Status != 0, "%s: %s", what, got.Err)
					if enforces {
						assert.Contains(t, got.Err, "alert access denied", what)
					}
				}
				got = curl("http://" + allowedHost + ":443/")
				assert.Equal(t, enforces, got.Status == 52 || got.Status == 56, "no TLS at 443: %d %s", got.Status, got.Err)
			}
			for _, version := range []string{"connect", "5"} {
				proxy := map[string]string{"connect": nettest.PodV4 + ":8080", "5": socksAddr}[version]
				me, err := user.Current()
				require.NoError(t, err)
				args := append(append([]string{}, options...), "-o", "ProxyCommand=nc -X "+version+" -x "+proxy+" %h %p", me.Username+"@"+sshHost, "echo it works")
				var got program.Output
				nettest.Eventually(t, "ssh is there", func() bool {
					got = program.Command(t, o.Client, nil, "ssh", args...)
					return got.Status == 0
				})
				assert.Equal(t, "it works\n", got.Out)
			}
			nettest.Eventually(t, "the log says so", func() bool {
				all := strings.Join(g.AccessLog(), "\n")
				return strings.Contains(all, `"check":"server_name","details":"the client's first bytes: the server name `+deniedHost+` is not allowed at `) &&
					strings.Contains(all, `"check":"protocol","details":"the client's first bytes: no TLS at port 443"`)
			})
		})
	}
}
