package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/image"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// kubelet runs the containers of a pod as a node would, less the control groups and
// the seccomp filter: the image's files as root, the network namespace of the pod,
// and of the security context the user, the capabilities, no_new_privs, and what is
// read-only.
type kubelet struct {
	t    *testing.T
	ns   *nettest.Netns
	root string // the image's files
	logs string // a folder
}

// sandbox is what becomes of a container's security context.
type sandbox struct {
	Root         string
	Mounts       map[string]string // folders by where they are mounted, to be read
	Shared       map[string]string // the same, to be written
	UID, GID     int
	Groups       []int    // besides
	Capabilities []string // the bounding set; of root it is all that it has
	Privileged   bool
	NoNewPrivs   bool
	ReadOnly     bool
	Argv, Env    []string
}

// sandboxed is set for the process that is to become a container.
const sandboxed = "SLUICE_TEST_SANDBOX"

func TestMain(m *testing.M) {
	if text := os.Getenv(sandboxed); text != "" {
		var s sandbox
		err := json.Unmarshal([]byte(text), &s)
		if err == nil {
			err = s.become()
		}
		fmt.Fprintf(os.Stderr, "sandbox: %v\n", err)
		os.Exit(125)
	}
	status := m.Run()
	_ = os.RemoveAll(scratch())
	os.Exit(status)
}

// capabilityNames are those that the manifests and the container runtimes' default
// set are about.
var capabilityNames = map[string]uintptr{"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW}

// become makes of this process, which has mount and process namespaces of its own,
// the container. It returns when that failed.
func (s sandbox) become() error {
	runtime.LockOSThread() // capabilities are a thread's
	steps := []struct {
		what string
		err  func() error
	}{
		{"keep mounts to ourselves", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"bind the root", func() error { return unix.Mount(s.Root, s.Root, "", unix.MS_BIND, "") }},
		{"mount volumes", s.mountVolumes},
		{"mount /proc", s.mountProc},
		{"make the root read-only", func() error {
			if !s.ReadOnly {
				return nil
			}
			return unix.Mount("", s.Root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}},
		{"change the root", func() error { return errors.Join(unix.Chroot(s.Root), unix.Chdir("/")) }},
		{"drop capabilities", s.dropCapabilities},
		{"become another user", func() error {
			return errors.Join(unix.Setgroups(s.Groups), unix.Setresgid(s.GID, s.GID, s.GID), unix.Setresuid(s.UID, s.UID, s.UID))
		}},
		{"set no_new_privs", func() error {
			if !s.NoNewPrivs {
				return nil
			}
			return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		}},
		{"exec " + s.Argv[0], func() error { return unix.Exec(s.Argv[0], s.Argv, s.Env) }},
	}
	for _, step := range steps {
		if err := step.err(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (s sandbox) mountVolumes() error {
	for at, dir := range s.Mounts {
		to := filepath.Join(s.Root, at)
		err := errors.Join(unix.Mount(dir, to, "", unix.MS_BIND, ""),
			unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		if err != nil {
			return err
		}
	}
	for at, dir := range s.Shared {
		if err := unix.Mount(dir, filepath.Join(s.Root, at), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func (s sandbox) mountProc() error {
	proc := filepath.Join(s.Root, "proc")
	sys := filepath.Join(proc, "sys")
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil || s.Privileged {
		return err
	}
	return errors.Join(unix.Mount(sys, sys, "", unix.MS_BIND, ""),
		unix.Mount("", sys, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
}

func (s sandbox) dropCapabilities() error {
	if s.Privileged {
		return nil
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.ContainsFunc(s.Capabilities, func(name string) bool { return capabilityNames[name] == c }) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	return nil
}

// isRoot reports whether it can become other users, which the root of a user namespace cannot.
func isRoot(t *testing.T) bool {
	t.Helper()
	users, err := os.ReadFile("/proc/self/uid_map")
	require.NoError(t, err)
	f := strings.Fields(string(users))
	return len(f) == 3 && f[2] == "4294967295" && os.Geteuid() == 0
}

// needRoot skips the test of who cannot become other users.
func needRoot(t *testing.T) {
	t.Helper()
	if !isRoot(t) {
		nettest.Unavailable(t, "to become another user takes root, not that of a user namespace")
	}
}

// newKubelet has the image's files run in ns.
func newKubelet(t *testing.T, ns *nettest.Netns, resolvConf string) *kubelet {
	t.Helper()
	needRoot(t)
	k := &kubelet{t: t, ns: ns, root: t.TempDir(), logs: t.TempDir()}
	require.NoError(t, os.Chmod(k.root, 0o755))
	out, err := exec.Command("cp", "-a", imageRoot(t)+"/.", k.root).CombinedOutput() // with the capabilities
	require.NoError(t, err, string(out))
	for _, dir := range []string{"proc", "etc/sluice", "run/sluice", "run/sluice-netsetup", "run/sluice-kube", "var/run/secrets/kubernetes.io/serviceaccount"} { // where the runtime mounts
		require.NoError(t, os.MkdirAll(filepath.Join(k.root, dir), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(k.root, "etc/resolv.conf"), []byte(resolvConf), 0o644))
	return k
}

// sandbox makes of the network namespace what the pod p asks for.
func (k *kubelet) sandbox(p pod) {
	k.t.Helper()
	for _, s := range p.spec.list("securityContext", "sysctls") {
		k.sysctl(s.text("name"), s.text("value"))
	}
}

func (k *kubelet) sysctl(name, value string) {
	k.t.Helper()
	require.NoError(k.t, k.ns.Do(func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
	}))
}

// container is a running one.
type container struct {
	cmd    *exec.Cmd
	stdout string // paths
	stderr string
}

// start runs a container of the pod p, with environ for what its manifest says. volumes are
// folders by where they are mounted.
func (k *kubelet) start(p pod, c object, environ []string, volumes map[string]string) *container {
	k.t.Helper()
	sc := c.object("securityContext")
	s := sandbox{
		Root: k.root, Mounts: map[string]string{}, Shared: map[string]string{}, UID: 65534,
		Privileged: sc["privileged"] == true,
		NoNewPrivs: sc["allowPrivilegeEscalation"] == false,
		ReadOnly:   sc["readOnlyRootFilesystem"] == true,
		Argv:       append(texts(c, "command"), texts(c, "args")...),
		// As the image has it.
		Env: append([]string{"PATH=/", "SLUICE_ADMIN=:9090"}, environ...),
	}
	for at, dir := range volumes {
		mounts := s.Shared
		for _, m := range c.list("volumeMounts") {
			if m.text("mountPath") == at && m["readOnly"] == true {
				mounts = s.Mounts
			}
		}
		mounts[at] = dir
	}
	require.Equal(k.t, "65534:65534", image.User)
	if uid, ok := sc["runAsUser"].(int); ok {
		s.UID = uid
	}
	s.GID = s.UID
	if gid, ok := sc["runAsGroup"].(int); ok {
		s.GID = gid
	}
	if g, ok := p.spec.at("securityContext", "fsGroup").(int); ok {
		s.Groups = []int{g}
	}
	nonRoot, ok := sc["runAsNonRoot"].(bool)
	if !ok {
		nonRoot = p.spec.at("securityContext", "runAsNonRoot") == true
	}
	require.False(k.t, nonRoot && s.UID == 0, "%s: %s would run as root and must not", p, c.text("name"))
	if c.at("command") == nil {
		s.Argv = append([]string{"/sluice"}, s.Argv...)
	}
	if drop := texts(sc, "capabilities", "drop"); len(drop) == 0 {
		s.Capabilities = []string{"NET_BIND_SERVICE", "NET_RAW"} // what runtimes give
	}
	s.Capabilities = append(s.Capabilities, texts(sc, "capabilities", "add")...)
	text, err := json.Marshal(s)
	require.NoError(k.t, err)
	run := &container{cmd: exec.Command("/proc/self/exe")}
	run.cmd.Env = []string{sandboxed + "=" + string(text)}
	run.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  0,
	}
	for _, w := range []struct {
		path *string
		to   func(*os.File)
	}{
		{&run.stdout, func(f *os.File) { run.cmd.Stdout = f }},
		{&run.stderr, func(f *os.File) { run.cmd.Stderr = f }},
	} {
		f, err := os.CreateTemp(k.logs, c.text("name")+"-")
		require.NoError(k.t, err)
		defer f.Close()
		*w.path = f.Name()
		w.to(f)
	}
	require.NoError(k.t, k.ns.Start(run.cmd), "%s", p)
	k.t.Cleanup(func() {
		if run.cmd.ProcessState == nil {
			_ = run.cmd.Process.Kill()
			_ = run.cmd.Wait()
		}
		if k.t.Failed() {
			k.t.Logf("%s said:\n%s", c.text("name"), run.log(k.t))
		}
	})
	return run
}

// log is what the container wrote to standard error.
func (c *container) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(c.stderr)
	require.NoError(t, err)
	return string(text)
}

// exit waits for the end and returns the status. What does not end is ended: -1.
func (c *container) exit() int {
	limit := time.AfterFunc(30*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer limit.Stop()
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode()
}

// emptyDir is a volume of the pod p as the kubelet makes it.
func emptyDir(t *testing.T, p pod) string {
	t.Helper()
	dir := t.TempDir()
	mode := os.FileMode(0o777)
	if g, ok := p.spec.at("securityContext", "fsGroup").(int); ok {
		require.NoError(t, os.Chown(dir, 0, g))
		mode |= os.ModeSetgid
	}
	require.NoError(t, os.Chmod(dir, mode))
	return dir
}

// configMap is a volume as the kubelet makes it: the files are links by way of a
// link, ..data, that is changed at once for all of them.
type configMap struct {
	t   *testing.T
	dir string
	n   int
}

func newConfigMap(t *testing.T, files map[string]string) *configMap {
	t.Helper()
	c := &configMap{t: t, dir: t.TempDir()}
	require.NoError(t, os.Chmod(c.dir, 0o755))
	c.write(files)
	for name := range files {
		require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(c.dir, name)))
	}
	return c
}

func (c *configMap) write(files map[string]string) {
	c.t.Helper()
	c.n++
	version := fmt.Sprintf("..version-%d", c.n)
	require.NoError(c.t, os.Mkdir(filepath.Join(c.dir, version), 0o755))
	for name, text := range files {
		require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, version, name), []byte(text), 0o644))
	}
	link := filepath.Join(c.dir, "..data_tmp")
	require.NoError(c.t, os.Symlink(version, link))
	require.NoError(c.t, os.Rename(link, filepath.Join(c.dir, "..data")))
}
