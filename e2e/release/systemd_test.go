//go:build linux

package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// needless are units that a Debian in a folder has no use for.
var needless = []string{
	"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-modules-load.service", "systemd-networkd.service", "systemd-logind.service",
	"systemd-timesyncd.service", "systemd-resolved.service", "console-getty.service", "getty.target", "remote-fs.target", "timers.target",
	"dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
}

// booted is a Debian in which systemd runs.
type booted struct {
	*debian
	ns  *nettest.Netns
	pid string // of systemd
}

func (d *debian) boot(ns *nettest.Netns) *booted {
	d.t.Helper()
	for _, unit := range needless {
		require.NoError(d.t, os.Symlink("/dev/null", d.path("etc/systemd/system/"+unit)))
	}
	script, err := filepath.Abs(filepath.Join("testdata", "boot.sh"))
	require.NoError(d.t, err)
	// In a mount namespace of its own: it mounts and unmounts.
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "bash", script, d.root)
	said, err := os.Create(filepath.Join(d.t.TempDir(), "said"))
	require.NoError(d.t, err)
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(d.t, ns.Start(cmd))
	b := &booted{debian: d, ns: ns}
	d.t.Cleanup(func() {
		if b.pid != "" {
			_ = exec.Command("kill", "-9", b.pid).Run() // PID 1 there: all others end with it
		}
		_ = cmd.Wait()
		if d.t.Failed() {
			text, _ := os.ReadFile(said.Name())
			d.t.Logf("it said:\n%s", text)
		}
	})
	nettest.Eventually(d.t, "systemd has come up", func() bool {
		if b.pid == "" {
			// bash has the subshell, that has become unshare, and that has systemd.
			b.pid = childOf(childOf(strconv.Itoa(cmd.Process.Pid), "unshare"), "systemd")
		}
		return b.pid != "" && strings.TrimSpace(b.say("systemctl", "is-system-running").Out) == "running"
	})
	return b
}

// childOf is the child of a process that has a name; "": there is none.
func childOf(parent, name string) string {
	children, _ := os.ReadFile("/proc/" + parent + "/task/" + parent + "/children")
	for _, child := range strings.Fields(string(children)) {
		comm, _ := os.ReadFile("/proc/" + child + "/comm")
		if strings.TrimSpace(string(comm)) == name {
			return child
		}
	}
	return ""
}

// say runs a command in there.
func (b *booted) say(args ...string) program.Output {
	b.t.Helper()
	return program.Command(b.t, nil, nil, "nsenter", append([]string{"-t", b.pid, "-m", "-p", "-n", "-u", "-i", "-C"}, args...)...)
}

// do is say of what has to succeed.
func (b *booted) do(args ...string) string {
	b.t.Helper()
	got := b.say(args...)
	require.Equal(b.t, 0, got.Status, "%s: %s%s\n%s", args, got.Out, got.Err, b.say("journalctl", "--no-pager", "-n", "30").Out)
	return got.Out
}

// The service as systemd runs it, with all that the unit takes from it: started, reloaded, not
// reloaded when that would be wrong, handed a low port, upgraded while it runs, and purged.
func TestService(t *testing.T) {
	d := newDebian(t)
	ns := nettest.NewNetns(t, "service")
	deb := filepath.Join(release(t), "sluice_"+number+"-1_"+runtime.GOARCH+".deb")
	old := d.bring(older(t, deb))
	fresh := d.bring(deb)
	d.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n")
	b := d.boot(ns)
	server := hello(t, ns)

	b.do("dpkg", "-i", old)
	assert.Equal(t, "inactive\n", b.say("systemctl", "is-active", "sluice").Out, "its rules deny everything: nobody has asked for it yet")
	b.do("systemctl", "enable", "--now", "sluice")
	ask := func(port string) string {
		return program.Command(t, ns, nil, "curl", "-sS", "--noproxy", "", "-x", "http://127.0.0.1:"+port, "http://"+server+"/").Out
	}
	assert.Contains(t, ask("8080"), "sluice: 403 Egress denied")

	d.write("etc/sluice/rules.txt", "127.0.0.1\n")
	b.do("systemctl", "reload", "sluice")
	nettest.Eventually(t, "the rules are in force", func() bool { return ask("8080") == "hello\n" })
	reaches(t, ns, "127.0.0.1:8080", server)

	d.write("etc/sluice/rules.txt", "10.0.0.300\n")
	got := b.say("systemctl", "reload", "sluice")
	assert.NotEqual(t, 0, got.Status)
	assert.Contains(t, b.do("journalctl", "--no-pager", "-u", "sluice"), "Bad destination '10.0.0.300'")
	reaches(t, ns, "127.0.0.1:8080", server)
	d.write("etc/sluice/rules.txt", "127.0.0.1\n")

	// What it may not do.
	main := strings.TrimSpace(b.do("systemctl", "show", "--property=MainPID", "--value", "sluice"))
	status := b.do("cat", "/proc/"+main+"/status")
	assert.Regexp(t, `(?m)^CapBnd:\t0{16}$`, status)
	assert.Regexp(t, `(?m)^NoNewPrivs:\t1$`, status)
	assert.Regexp(t, `(?m)^Seccomp:\t2$`, status)
	assert.NotRegexp(t, `(?m)^Uid:\t0\b`, status)

	// An upgrade restarts what runs.
	b.do("dpkg", "-i", fresh)
	assert.Equal(t, "active\n", b.do("systemctl", "is-active", "sluice"))
	assert.NotEqual(t, main, strings.TrimSpace(b.do("systemctl", "show", "--property=MainPID", "--value", "sluice")))
	reaches(t, ns, "127.0.0.1:8080", server)

	// One that does not start again, by its settings, leaves no package that is half installed.
	settings := d.read("etc/sluice/sluice.yaml")
	d.write("etc/sluice/sluice.yaml", settings+"nonsense: 1\n")
	assert.Contains(t, b.do("bash", "-c", "dpkg --force-confold -i "+fresh+" 2>&1"), "sluice.service did not start again: journalctl -u sluice says why\n")
	assert.Equal(t, "install ok installed", b.do("dpkg-query", "-W", "-f", "${Status}", "sluice"))
	d.write("etc/sluice/sluice.yaml", settings)
	b.do("systemctl", "restart", "sluice")
	reaches(t, ns, "127.0.0.1:8080", server)

	// A low port is systemd's to open.
	b.do("systemctl", "disable", "--now", "sluice")
	require.NoError(t, os.MkdirAll(d.path("etc/systemd/system/sluice.socket.d"), 0o755))
	d.write("etc/systemd/system/sluice.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=80\n")
	d.write("etc/sluice/sluice.yaml", strings.Replace(d.read("etc/sluice/sluice.yaml"), `":8080"`, `":80"`, 1))
	b.do("systemctl", "daemon-reload")
	b.do("systemctl", "enable", "--now", "sluice.socket")
	assert.Equal(t, "inactive\n", b.say("systemctl", "is-active", "sluice").Out)
	assert.Equal(t, "hello\n", ask("80"), "its first client starts it")
	b.do("systemctl", "restart", "sluice")
	assert.Equal(t, "hello\n", ask("80"))
	assert.NotContains(t, b.do("journalctl", "--no-pager", "-u", "sluice"), "cannot be told")

	require.NoError(t, os.RemoveAll(d.path("etc/systemd/system/sluice.socket.d")))
	b.do("dpkg", "-P", "sluice")
	assert.Equal(t, "inactive\ninactive\n", b.say("systemctl", "is-active", "sluice.service", "sluice.socket").Out)
	assert.Empty(t, b.say("find", "/etc", "/usr", "/var/lib", "/run", "-xdev", "-name", "*sluice*", "-not", "-path", "/var/lib/dpkg/*").Out)
}
