//go:build linux

package http

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// squidParent is the configuration of a real squid as a parent, with its own rules for ports as they come:
// CONNECT to 443 alone. %[1]s is its folder, %[2]s the file of passwords.
const squidParent = `http_port 203.0.113.20:3128
https_port 203.0.113.20:3129 tls-cert=%[1]s/parent.pem tls-key=%[1]s/parent.key
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[2]s
auth_param basic children 1
acl known proxy_auth REQUIRED
acl SSL_ports port 443
acl CONNECT method CONNECT
http_access deny CONNECT !SSL_ports
http_access allow known
http_access deny all
dns_nameservers 10.128.0.1
forwarded_for transparent
cache deny all
access_log stdio:%[1]s/access.log
shutdown_lifetime 0
pid_filename none
cache_log %[1]s/cache.log
netdb_filename none
coredump_dir none
pinger_enable off
hosts_file none
max_filedescriptors 1024
`

// squidOutside runs that squid beside server B, and returns its folder.
func (o *outside) squidOutside(t testing.TB) string {
	t.Helper()
	squid := nettest.Need(t, "squid")
	// Not t.TempDir, which nobody but root may go through: squid becomes proxy.
	dir, err := os.MkdirTemp("", "squid-parent")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	ca := nettest.NewCA(t)
	nettest.WriteFiles(t, dir, "parent", ca.Issue(nettest.ServerBV4))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca.PEM, 0o644))
	passwords := filepath.Join(dir, "passwords")
	out, err := exec.CommandContext(t.Context(), nettest.Need(t, "htpasswd"), "-cbm", passwords, "gate", "s3cr3t-of-squid").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Chmod(passwords, 0o644))
	for _, f := range []string{"parent.pem", "parent.key"} {
		require.NoError(t, os.Chmod(filepath.Join(dir, f), 0o644))
	}
	conf := filepath.Join(dir, "squid.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, squidParent, dir, passwords), 0o644))
	cmd := exec.Command(squid, "-N", "-f", conf)
	require.NoError(t, o.ServerB.Start(cmd))
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	nettest.Eventually(t, "squid listens", func() bool {
		c, err := o.Egress.DialContext(t.Context(), "tcp", nettest.ServerBV4+":3129")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for name, text := range map[string]string{"login": "gate:s3cr3t-of-squid\n", "wrong": "gate:wr0ng\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// A real squid as the parent, with a password, in plain and by TLS, by address and by name; curl is
// the client.
func TestSquidAsParent(t *testing.T) {
	o := newOutside(t)
	o.DNS.Set("api.example.com", nettest.Addrs(nettest.ServerAV4))
	o.DNS.Set("other.example.com", nettest.Addrs(nettest.ServerBV4))
	dir := o.squidOutside(t)
	const rules = "rules: |\n  api.example.com\n  203.0.113.10\n"
	url := map[bool]string{false: "http://203.0.113.20:3128", true: "https://203.0.113.20:3129"}
	for _, secure := range []bool{false, true} {
		for _, connect := range []string{"address", "name"} {
			t.Run(fmt.Sprint(url[secure], " by ", connect), func(t *testing.T) {
				ca := ""
				if secure {
					ca = ", ca: " + dir + "/ca.crt"
				}
				g := o.withParents(t, rules+fmt.Sprintf("parents:\n- {via: {url: %q, basic: {file: %s/login}%s}, connect: %s}\n", url[secure], dir, ca, connect))
				for range 3 {
					got := o.curl(t, "https://api.example.com/")
					assert.Equal(t, "server-a saw "+nettest.ServerBV4, lastLine(got.Out), got.Out+got.Err)
				}
				got := o.curl(t, "http://api.example.com/")
				if connect == "name" {
					assert.Equal(t, "server-a saw "+nettest.ServerBV4, lastLine(got.Out), got.Err)
				} else { // squid lets nobody CONNECT to port 80, as it comes
					assert.Equal(t, "HTTP/1.1 403 Forbidden: parent proxy "+url[secure]+": it refuses: 403 Forbidden", statusLine(got.Out))
				}
				got = o.curl(t, "https://other.example.com/")
				assert.Contains(t, got.Out, "HTTP/1.1 403 Egress denied: no rule allows it")
				lines := ""
				nettest.Eventually(t, "the log has all", func() bool {
					lines = strings.Join(g.AccessLog(), "\n")
					return strings.Count(lines, `"target":`) == 5
				})
				assert.Equal(t, 4, strings.Count(lines, `"parent":"`+url[secure]+`"`), lines)
				assert.NotContains(t, lines+g.Stderr(), "s3cr3t")
				assert.Equal(t, connect == "address", strings.Contains(lines, `"address":"203.0.113.10:443"`))
				_, page := g.Ask("/")
				assert.Contains(t, page, "<td>every destination</td><td><pre>"+url[secure]+": up</pre></td>")
				assert.Equal(t, "1", g.Metric(`sluice_parent_up{parent="`+url[secure]+`",tenant=""}`))
			})
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "access.log"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "CONNECT 203.0.113.10:443 gate")
	assert.Contains(t, string(text), "CONNECT api.example.com:443 gate")
	assert.Contains(t, string(text), "GET http://api.example.com/ gate")
}

// A password that squid does not take is told as what it is, and mended while the gateway runs.
func TestSquidRefusesTheGateway(t *testing.T) {
	o := newOutside(t)
	o.DNS.Set("api.example.com", nettest.Addrs(nettest.ServerAV4))
	dir := o.squidOutside(t)
	for _, connect := range []string{"address", "name"} {
		t.Run(connect, func(t *testing.T) {
			wrong := filepath.Join(dir, "changing")
			require.NoError(t, os.WriteFile(wrong, []byte("gate:wr0ng\n"), 0o600))
			g := o.withParents(t, fmt.Sprintf("rules: api.example.com\nparents:\n- {via: {url: 'http://203.0.113.20:3128', basic: {file: %s}}, connect: %s}\n", wrong, connect))
			const want = "HTTP/1.1 502 Bad Gateway: parent proxy http://203.0.113.20:3128: it does not take the gateway's credential (407)"
			got := o.curl(t, "https://api.example.com/")
			assert.Contains(t, got.Out, want)
			assert.NotContains(t, got.Out, "Proxy-Authenticate")
			if connect == "name" {
				got = o.curl(t, "http://api.example.com/")
				assert.Contains(t, got.Out, want)
				assert.NotContains(t, got.Out, "Proxy-Authenticate")
			}
			require.NoError(t, os.WriteFile(wrong, []byte("gate:s3cr3t-of-squid\n"), 0o600))
			nettest.Eventually(t, "the new password is shown", func() bool {
				return lastLine(o.curl(t, "https://api.example.com/").Out) == "server-a saw "+nettest.ServerBV4
			})
			nettest.Eventually(t, "the log says why", func() bool {
				return strings.Contains(strings.Join(g.AccessLog(), "\n"), `"error":"proxy_configuration_error","details":"parent proxy http://203.0.113.20:3128: it does not take the gateway's credential (407)"`)
			})
		})
	}
}

// Many real clients by one squid, each with its own bytes.
func TestManyBySquid(t *testing.T) {
	o, _ := newServers(t)
	dir := o.squidOutside(t)
	o.withParents(t, fmt.Sprintf("rules: '*.example.com'\nparents:\n- {via: {url: 'https://203.0.113.20:3129', ca: %[1]s/ca.crt, basic: {file: %[1]s/login}}}\n", dir))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			file := filepath.Join(t.TempDir(), "body")
			text := strings.Repeat(fmt.Sprintf("of client %d;", i), 100_000)
			assert.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			want := program.Command(t, nil, nil, "sha256sum", file).Out
			got := o.curl(t, "--upload-file", file, "https://"+allowedHost+"/upload")
			assert.Contains(t, got.Out, fmt.Sprintf("%d %s <nil>", len(text), strings.Fields(want)[0]), got.Err)
		})
	}
	wg.Wait()
}

// withParents starts the gateway with a configuration.
func (o *outside) withParents(t testing.TB, config string, args ...string) *gateway {
	t.Helper()
	args = append(append([]string{"--resolver", nettest.NodeV4}, args...), sources...)
	if !hasFlag(args, "--connect-timeout") {
		args = append(args, "--connect-timeout", "5s")
	}
	return start(t, program.Setup{Netns: o.Egress, Config: config, Args: args})
}
