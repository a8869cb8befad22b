//go:build linux

package release

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// debian is a small Debian in a folder of the test's own.
type debian struct {
	t    *testing.T
	root string
}

// newDebian unpacks what scripts/make-debian-base.sh has made.
func newDebian(t *testing.T) *debian {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	base := filepath.Join(cache, "sluice", "debian-bookworm.tar")
	if _, err := os.Stat(base); err != nil || os.Geteuid() != 0 {
		nettest.Unavailable(t, "a Debian to install into: as root, scripts/make-debian-base.sh makes it")
	}
	d := &debian{t, t.TempDir()}
	out, err := exec.Command("tar", "-C", d.root, "-xf", base).CombinedOutput()
	require.NoError(t, err, string(out))
	return d
}

// run runs a command in there, and returns what it said.
func (d *debian) run(args ...string) string {
	d.t.Helper()
	cmd := exec.Command("chroot", append([]string{d.root}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	require.NoError(d.t, err, "%s: %s", args, out)
	return string(out)
}

func (d *debian) path(name string) string { return filepath.Join(d.root, name) }

func (d *debian) read(name string) string {
	d.t.Helper()
	b, err := os.ReadFile(d.path(name))
	require.NoError(d.t, err)
	return string(b)
}

func (d *debian) write(name, text string) {
	d.t.Helper()
	require.NoError(d.t, os.WriteFile(d.path(name), []byte(text), 0o644))
}

// bring copies a file of this machine to / there.
func (d *debian) bring(path string) (there string) {
	d.t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(d.t, err)
	d.write(filepath.Base(path), string(text))
	return "/" + filepath.Base(path)
}

// everything is what there is in there, but for what the package managers note for themselves.
func (d *debian) everything() (paths []string) {
	d.t.Helper()
	require.NoError(d.t, filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, d.root)
		if err != nil || strings.HasPrefix(name, "/var/lib/dpkg") || strings.HasPrefix(name, "/var/log") || strings.HasPrefix(name, "/root/.rpmdb") || strings.HasPrefix(name, "/sluice") {
			return err
		}
		info, err := e.Info()
		paths = append(paths, info.Mode().String()+" "+name)
		return err
	}))
	return paths
}

// older makes of a package one of a version before it, with another sluice.yaml.
func older(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "old")
	run := func(args ...string) {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
	}
	run("dpkg-deb", "-R", deb, dir)
	run("sed", "-i", "s/^Version: .*/Version: 0.1.0-1/", filepath.Join(dir, "DEBIAN", "control"))
	run("sed", "-i", "s/^admin: .*/admin: 127.0.0.1:9999/", filepath.Join(dir, "etc", "sluice", "sluice.yaml"))
	run("sed", "-i", `/ etc.sluice.sluice.yaml$/d`, filepath.Join(dir, "DEBIAN", "md5sums"))
	old := filepath.Join(t.TempDir(), "sluice_0.1.0-1.deb")
	run("dpkg-deb", "--root-owner-group", "-b", dir, old)
	return old
}

// unit is a unit of the package that is installed: its settings, of which the last counts.
func (d *debian) unit(name string) map[string]string {
	d.t.Helper()
	settings := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(d.read("usr/lib/systemd/system/"+name), -1) {
		settings[m[1]] = m[2]
	}
	return settings
}

// start starts the program as the unit does: its command line, no privilege, and no user who
// has anything.
func (d *debian) start(ns *nettest.Netns) (stop func()) {
	d.t.Helper()
	args := []string{d.root, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"}
	cmd := exec.Command("chroot", append(args, strings.Fields(d.unit("sluice.service")["ExecStart"])...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	said, err := os.Create(filepath.Join(d.t.TempDir(), "said"))
	require.NoError(d.t, err)
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(d.t, ns.Start(cmd))
	text := func() string { b, _ := os.ReadFile(said.Name()); return string(b) }
	d.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if d.t.Failed() {
			d.t.Log(text())
		}
	})
	nettest.Eventually(d.t, "it runs", func() bool { return strings.Contains(text(), "\nsource address: ") })
	return func() {
		require.NoError(d.t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(d.t, cmd.Wait(), text())
	}
}

// The package is installed, used, upgraded and purged, and then nothing of it is left.
func TestDeb(t *testing.T) {
	d := newDebian(t)
	ns := nettest.NewNetns(t, "package")
	deb := filepath.Join(release(t), "sluice_"+number+"-1_"+runtime.GOARCH+".deb")
	before := d.everything()

	d.run("dpkg", "-i", d.bring(older(t, deb)))
	assert.Equal(t, "install ok installed 0.1.0-1", d.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "sluice"))
	assert.Empty(t, d.run("sluice", "proxy", "--check", "--config", "/etc/sluice/sluice.yaml"))
	assert.Empty(t, d.run("sluice", "acl", "lint", "/usr/share/sluice/presets/npm.txt", "/usr/share/sluice/presets/github.txt"))

	// As it comes, it denies everything; what the user writes holds.
	stop := d.start(ns)
	ask := func() string {
		return program.Command(t, ns, nil, "curl", "-sS", "--noproxy", "", "-x", "http://127.0.0.1:8080", "http://"+hello(t, ns)+"/").Out
	}
	assert.Contains(t, ask(), "sluice: 403 Egress denied")
	const rules = "# mine\n127.0.0.1\n"
	d.write("etc/sluice/rules.txt", rules)
	stop()
	stop = d.start(ns)
	reaches(t, ns, "127.0.0.1:8080", hello(t, ns))
	stop()

	// An upgrade keeps what the user has changed, and brings what he has not.
	assert.Contains(t, d.read("etc/sluice/sluice.yaml"), "admin: 127.0.0.1:9999\n")
	d.run("dpkg", "-i", d.bring(deb))
	assert.Equal(t, rules, d.read("etc/sluice/rules.txt"))
	assert.Contains(t, d.read("etc/sluice/sluice.yaml"), "admin: 127.0.0.1:9090\n")
	assert.Contains(t, d.run("sluice", "version"), "sluice v0.2.0 ")
	stop = d.start(ns)
	reaches(t, ns, "127.0.0.1:8080", hello(t, ns))
	_, err := ns.DialContext(context.Background(), "tcp", "127.0.0.1:9090")
	assert.NoError(t, err)
	stop()
	assert.Equal(t, "??5?????? c /etc/sluice/rules.txt\n", d.run("dpkg", "--verify", "sluice"))

	d.run("dpkg", "-r", "sluice")
	assert.Equal(t, rules, d.read("etc/sluice/rules.txt"), "removed, not purged")
	d.run("dpkg", "-P", "sluice")
	assert.Equal(t, before, d.everything())
}

// The RPM package is installed and erased.
func TestRPM(t *testing.T) {
	nettest.Need(t, "rpm")
	d := newDebian(t)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	path := filepath.Join(release(t), "sluice-"+number+"-1."+arch+".rpm")
	rpm := func(args ...string) string {
		cmd := exec.Command("rpm", args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
		return string(out)
	}
	assert.Contains(t, rpm("-K", "--nosignature", path), "digests OK")
	assert.Equal(t, "/etc/sluice/rules.txt\n/etc/sluice/sluice.yaml\n", rpm("-qp", "--configfiles", path))
	before := d.everything()
	rpm("--root", d.root, "--nodeps", "-i", path)
	assert.Contains(t, d.run("sluice", "version"), "sluice v0.2.0 ")
	assert.Empty(t, d.run("sluice", "proxy", "--check", "--config", "/etc/sluice/sluice.yaml"))
	ns := nettest.NewNetns(t, "package")
	d.write("etc/sluice/rules.txt", "127.0.0.1\n")
	stop := d.start(ns)
	reaches(t, ns, "127.0.0.1:8080", hello(t, ns))
	stop()
	rpm("--root", d.root, "-e", "sluice")
	require.NoError(t, os.Remove(d.path("etc/sluice/rules.txt.rpmsave")))
	require.NoError(t, os.Remove(d.path("etc/sluice")))
	// Where there is RPM these belong to other packages.
	for _, folder := range []string{"fish/vendor_completions.d", "fish", "zsh/site-functions"} {
		require.NoError(t, os.Remove(d.path("usr/share/"+folder)))
	}
	assert.Equal(t, before, d.everything())
}

// What an intruder would have in the service, by systemd's measure, and that the units are
// what systemd takes them for.
func TestUnits(t *testing.T) {
	nettest.Need(t, "systemd-analyze")
	dir := filepath.Join("..", "..", "deploy", "package")
	analyze := func(args ...string) (string, error) {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		return string(out), err
	}
	out, err := analyze("security", "--offline=true", "--threshold=20", filepath.Join(dir, "sluice.service"))
	require.NoError(t, err, out)
	assert.Regexp(t, `Overall exposure level for sluice\.service: 1\.\d OK`, out)

	// Only what is not installed here may be missing.
	out, _ = analyze("verify", "--man=no", filepath.Join(dir, "sluice.service"), filepath.Join(dir, "sluice.socket"))
	for line := range strings.Lines(out) {
		assert.Equal(t, "sluice.service: Command /usr/bin/sluice is not executable: No such file or directory\n", line)
	}
}
