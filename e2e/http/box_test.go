//go:build linux

package http

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// box is that of docs/sandbox.md, on a machine that is the egress pod.
type box struct {
	*registries
	g    *gateway
	dir  string // where what the page has in /etc/sluice, /srv/box and the like is
	pid  int    // of a process in the machine's namespaces, in which the box has its name
	page *strings.Replacer
}

// block is the Nth of its language under a heading of the page.
func (b *box) block(t testing.TB, heading, language string, n int) string {
	t.Helper()
	for _, each := range docs.All(t, "../..", "docs/sandbox.md") {
		if each.Heading == heading && each.Language == language && each.N == n {
			return b.page.Replace(each.Text)
		}
	}
	t.Fatalf("docs/sandbox.md has no block %d of %q under %q", n, language, heading)
	return ""
}

// newBox does what the page says, in its order.
func newBox(t testing.TB) *box {
	t.Helper()
	for _, name := range []string{"git", "npm", "pip", "nft", "nc", "setpriv", "nsenter", "unshare"} {
		nettest.Need(t, name)
	}
	dir, err := os.MkdirTemp("/var/tmp", "sluice-box-") // where nobody may look around
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	b := &box{registries: newRegistries(t), dir: dir}
	repo := b.servers(t)
	presets, err := filepath.Abs("../../deploy/presets")
	require.NoError(t, err)
	me, err := user.Current()
	require.NoError(t, err)
	b.page = strings.NewReplacer("/etc/sluice/", dir+"/etc/", "/srv/box", dir+"/home", "/srv/repo.git", repo, "/usr/share/sluice/presets", presets,
		"/etc/ssl/certs/ca-certificates.crt", b.CA.File, "git@", me.Username+"@")
	const rules, namespace = "What the box may do", "As a network namespace"
	require.NoError(t, os.MkdirAll(dir+"/etc", 0o700))
	for path, text := range map[string]string{"etc/github": secret + "\n", "etc/box.rules": b.block(t, rules, "", 1), "etc/box.nft": b.block(t, namespace, "nft", 1)} {
		b.file(t, path, text, 0o600)
	}
	require.NoError(t, os.Symlink(program.Racy(t), dir+"/sluice"))
	b.machine(t, b.block(t, namespace, "sh", 1)+b.block(t, namespace, "sh", 2))
	b.file(t, "home/environment", b.block(t, namespace, "sh", 3), 0o644)
	b.file(t, "home/ssh_config", b.block(t, namespace, "", 1), 0o644)
	b.file(t, "box", b.block(t, namespace, "sh", 4), 0o755)
	b.g = start(t, program.Setup{Netns: b.Egress, Config: b.block(t, rules, "yaml", 1),
		Args: append([]string{"--resolver", nettest.NodeV4, "--upstream-ca", b.CA.File}, sources...)})
	return b
}

func (b *box) file(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	path = filepath.Join(b.dir, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
}

// servers are those that the page names, beside the registries. The key of the ssh one is the box's.
func (b *box) servers(t testing.TB) (repo string) {
	t.Helper()
	mux := http.NewServeMux()
	newRepositoryOf(t, mux, 1<<20)
	mux.HandleFunc("api.github.com/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			w.WriteHeader(401)
		}
		fmt.Fprintln(w, "hello from "+r.Host)
	})
	names := []string{"api.github.com", "git.example.com"}
	serve(t, b.ServerB.Listen(nettest.ServerBV4+":443"), b.CA.serverConfig(names...), mux)
	for _, name := range names {
		b.DNS.Set(name, nettest.Addrs(nettest.ServerBV4))
	}
	for _, name := range []string{"code.example.com", "www.example.org"} {
		b.DNS.Set(name, nettest.Addrs(nettest.ServerAV4))
	}
	options, repo, _ := b.sshd(t, "22")
	key := options[3]
	host, err := os.ReadFile(filepath.Join(filepath.Dir(key), "host.pub"))
	require.NoError(t, err)
	private, err := os.ReadFile(key)
	require.NoError(t, err)
	b.file(t, "home/known_hosts", "code.example.com "+string(host), 0o644)
	b.file(t, "home/deploy_key", string(private), 0o600)
	require.NoError(t, os.Chown(b.dir+"/home/deploy_key", 65534, 65534))
	return repo
}

// machine runs what the page does as root, where namespaces have names of the test's own.
func (b *box) machine(t testing.TB, script string) {
	t.Helper()
	require.NoError(t, os.MkdirAll("/run/netns", 0o755))
	cmd := exec.Command("unshare", "-m", "bash", "-ec", "mount -t tmpfs tmpfs /run/netns\nPATH="+b.dir+":$PATH\n"+script+"touch "+b.dir+"/made; exec sleep infinity")
	require.NoError(t, b.Egress.Do(func() error {
		program.Background(t, cmd)
		return nil
	}))
	b.pid = cmd.Process.Pid
	nettest.Eventually(t, "the box is made", func() bool {
		_, err := os.Stat(b.dir + "/made")
		return err == nil
	})
}

// root runs a script of the machine's administrator.
func (b *box) root(t testing.TB, args ...string) program.Output {
	t.Helper()
	return program.Command(t, nil, nil, "nsenter", append([]string{"--target", fmt.Sprint(b.pid), "--mount", "--net"}, args...)...)
}

// The box of the documentation, made as it stands there: what works, and what does not come of
// anything else that is tried in it.
func TestBox(t *testing.T) {
	b := newBox(t)
	const heading = "What it gets, and what it does not"
	for n := 1; n <= 2; n++ {
		docs.Replay(t, b.block(t, heading, "console", n), func(_, script string) string {
			return b.root(t, b.dir+"/box", "bash", "-c", script).Out
		})
	}
	out := b.root(t, b.dir+"/box", "sh", "-c", "env; id; cat /proc/self/status")
	assert.Contains(t, out.Out, "uid=65534(nobody) gid=65534")
	assert.Contains(t, out.Out, "CapBnd:\t0000000000000000\n")
	assert.Contains(t, out.Out, "NoNewPrivs:\t1\n")
	assert.NotContains(t, out.Out, secret)

	// Who is root in there, and has himself a route, gets no further, also where the machine is a router.
	for _, addr := range []string{"0.0.0.0:9999", "[::]:9998"} { // what else a machine has
		l := b.Egress.Listen(addr)
		go http.Serve(l, witness("machine")) //nolint:gosec // it ends with the test
		t.Cleanup(func() { _ = l.Close() })
	}
	wire := b.ServerA.Capture(t)
	const machine = `http://10.200.0.1:9999/ http://198.51.100.50:9999/ "http://[$own%25eth0]:9998/" `
	tries := func(urls, limit string) string {
		return b.root(t, "sh", "-c", `
echo 1 > /proc/sys/net/ipv4/ip_forward
ip -n box route replace default via 10.200.0.1
own=$(ip -6 -o addr show dev box0 scope link | sed 's/.*inet6 \([^/]*\).*/\1/')
for url in `+urls+`; do ip netns exec box curl -gsS --noproxy '*' --max-time `+limit+` $url; done`).Out
	}
	arrived := func() (n int) {
		for _, p := range b.Seen(t, wire, nettest.ServerAV4) {
			if p.Src.Addr().String() == "10.200.0.2" {
				n++
			}
		}
		return n
	}
	assert.Empty(t, tries(machine+"http://10.200.0.1:9090/ http://203.0.113.10/ http://169.254.169.254/", "10"))
	assert.Zero(t, arrived())
	require.Equal(t, 0, b.root(t, "nft", "delete table inet box").Status)
	assert.Equal(t, 3, strings.Count(tries(machine, "10"), "machine saw "), "without the table the machine is there")
	tries("http://203.0.113.10/", "0.3") // nobody there knows the way back
	assert.NotZero(t, arrived(), "and a way on")
}
