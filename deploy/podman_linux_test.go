package deploy

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// podmanEnviron has podman run here: where a process may not raise its limits, and by a
// runtime that can do with any version of control groups. Its file is in dir.
func podmanEnviron(t *testing.T, dir string) []string {
	t.Helper()
	nettest.Need(t, "podman")
	nettest.Need(t, "runc")
	config := filepath.Join(dir, "containers.conf")
	require.NoError(t, os.WriteFile(config, []byte(`[containers]
default_ulimits=["nofile=20000:20000","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
`), 0o644))
	return append(os.Environ(), "CONTAINERS_CONF="+config)
}

// TestChartTest runs the container of "helm test" with podman, as its manifest says, in the
// network of a client: beside a gateway, beside one that allows what it must refuse, and where
// there is none.
func TestChartTest(t *testing.T) {
	needRoot(t)
	environ := podmanEnviron(t, t.TempDir())
	world := nettest.NewTopology(t)
	outside(t, world)
	world.DNS(t).Set("www.example.com", nettest.Addrs(nettest.ServerAV4))
	out, err := template(t, "sluice", "--set=image=localhost/sluice:dev", "--set=test.allowed={www.example.com:80},test.denied={169.254.169.254:80,www.example.net:80}",
		"--set=rules=*.example.com")
	require.NoError(t, err)
	s := set{"helm/test", decode(t, out)}
	p, test := pod{}, object(nil)
	for _, each := range podsOf(s) {
		if each.owner.kind() == "Pod" {
			test = each.spec
		} else {
			p = each
		}
	}
	k := newKubelet(t, world.Egress, "nameserver "+nettest.NodeV4+"\n")
	main := p.spec.list("containers")[0]
	rules := newConfigMap(t, map[string]string{"rules.txt": s.find("ConfigMap", "sluice-rules", "egress").text("data", "rules.txt")})
	storage := t.TempDir()
	podman := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "podman", append([]string{"--root=" + storage + "/root", "--runroot=" + storage + "/run"}, args...)...)
		cmd.Env = environ
		var both bytes.Buffer
		cmd.Stdout, cmd.Stderr = &both, &both
		require.NoError(t, world.Client.Start(cmd))
		err := cmd.Wait()
		return both.String(), err
	}
	said, err := podman("load", "--input="+imageArchive(t))
	require.NoError(t, err, said)
	run := append([]string{"run", "--rm", "--network=host", "--add-host=sluice.egress.svc:" + nettest.PodV4}, flagsOf(t, test)...)

	said, err = podman(run...)
	require.Error(t, err, "there is no gateway yet")
	require.Contains(t, said, "connection refused")

	k.start(p, main, p.environ(t, main), map[string]string{"/etc/sluice": rules.dir})
	nettest.Eventually(t, "the gateway is ready", func() bool { return probe(t, world, main) == "200" })
	said, err = podman(run...)
	require.NoError(t, err, said)
	assert.Equal(t, "ok\tallowed\twww.example.com:80\nok\tdenied\t169.254.169.254:80\nok\tdenied\twww.example.net:80\n", said)

	rules.write(map[string]string{"rules.txt": "www.example.net\n"})
	nettest.Eventually(t, "other rules are in force", func() bool { return strings.Contains(curl(t, world, "http://www.example.com/"), "Egress denied") })
	said, err = podman(run...)
	require.Error(t, err)
	assert.Contains(t, said, "FAILED\tallowed\twww.example.com:80\tthe answer is \"HTTP/1.1 403 Egress denied: no rule allows it\", and 200 was expected\n")
}

// flagsOf are the arguments of "podman run" that say what the kubelet makes of a pod with one
// container: its image and arguments at the end.
func flagsOf(t *testing.T, spec object) (args []string) {
	t.Helper()
	require.Len(t, spec.list("containers"), 1)
	c := spec.list("containers")[0]
	sc := c.object("securityContext")
	if sc["readOnlyRootFilesystem"] == true {
		args = append(args, "--read-only")
	}
	if sc["allowPrivilegeEscalation"] == false {
		args = append(args, "--security-opt=no-new-privileges")
	}
	for _, name := range texts(sc, "capabilities", "drop") {
		args = append(args, "--cap-drop="+name)
	}
	require.Nil(t, sc.at("capabilities", "add"))
	require.Nil(t, c["env"])
	require.Nil(t, c["command"])
	args = append(args, "--memory="+c.text("resources", "limits", "memory"), c.text("image"))
	return append(args, texts(c, "args")...)
}

// laptop is what a user does: loads the image, has a program of his own in another, and
// runs clients/laptop.sh. A container outside of the box is the Internet.
const laptop = `
set -eu
podman load --quiet --input "$dir/sluice-image.tar"
tar -C "$dir" -cf - client | podman import --quiet - localhost/client:dev
podman run --detach --name internet --network podman --user 0 localhost/client:dev /client -serve
trap 'podman rm --force --time 0 internet' EXIT
address=$(podman inspect --format '{{.NetworkSettings.Networks.podman.IPAddress}}' internet)
printf '%s\n' "$address" >"$dir/rules.txt"
step() { echo "== $1"; shift; "$@" || echo "status $?"; }
step outside podman run --rm --network podman localhost/client:dev /client -ignore "http://$address/"
step heeds "$dir/laptop.sh" "$dir/rules.txt" localhost/client:dev /client "http://$address/" http://192.0.2.1/
step ignores "$dir/laptop.sh" "$dir/rules.txt" localhost/client:dev /client -ignore "http://$address/"
step "wrong rules" "$dir/laptop.sh" "$dir/wrong.txt" localhost/client:dev /client "http://$address/"
step left podman ps --all --format '{{.Names}}'
podman network ls --format '{{.Name}}'
`

// user makes a user of the script's own who may have users and groups of his own: in a mount and
// process namespace that ends with it. What it changes are copies.
const user = `
set -eu
mount -t tmpfs tmpfs /run/user
mkdir -m 700 /run/user/64321 && chown 64321:64321 /run/user/64321
for file in passwd group subuid subgid; do cp /etc/$file "$dir/$file" 2>/dev/null || : >"$dir/$file"; done
echo "boxer:x:64321:64321::$dir/home:/bin/bash" >>"$dir/passwd"
echo "boxer:x:64321:" >>"$dir/group"
echo boxer:1000000:65536 | tee -a "$dir/subuid" >>"$dir/subgid"
for file in passwd group subuid subgid; do [ -e /etc/$file ] || : >/etc/$file; mount --bind "$dir/$file" /etc/$file; done
mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
mknod -m 666 "$dir/tun" c 10 200
mount --bind "$dir/tun" /dev/net/tun
mkdir "$dir/home" && chown -R 64321:64321 "$dir"
exec setpriv --reuid=64321 --regid=64321 --init-groups --inh-caps=-all env HOME="$dir/home" USER=boxer XDG_RUNTIME_DIR=/run/user/64321 bash "$dir/laptop"
`

// TestLaptop runs the recipe of docs/clients.md with podman as a user without privilege.
func TestLaptop(t *testing.T) {
	needRoot(t)
	nettest.Need(t, "newuidmap")
	nettest.Need(t, "slirp4netns")
	dir, err := os.MkdirTemp("/var/tmp", "sluice-laptop-") // where a user may read, and overlays may be
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	environ := podmanEnviron(t, dir)
	out, err := exec.Command("cp", imageArchive(t), "clients/laptop.sh", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	for name, text := range map[string]string{"laptop": laptop, "user": user, "wrong.txt": "http://example.com\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "client"), "./testdata/client")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err = build.CombinedOutput()
	require.NoError(t, err, string(out))

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", filepath.Join(dir, "user"))
	cmd.Env = append(slices.Clone(environ), "dir="+dir)
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("%s", out)
	steps := map[string]string{}
	for _, step := range strings.Split(string(out), "== ")[1:] {
		name, said, _ := strings.Cut(step, "\n")
		steps[name] = said
	}
	assert.Contains(t, steps["outside"], "200 OK", "what the box keeps away is there")
	assert.Regexp(t, `^200 OK\n403 Egress denied: no rule allows it\nwhat it asked for:\n.*"verdict":"allow"`, steps["heeds"])
	assert.Contains(t, steps["ignores"], "network is unreachable")
	assert.Contains(t, steps["ignores"], "status 1")
	assert.Contains(t, steps["wrong rules"], "http://example.com", "it says what is wrong with them")
	assert.NotContains(t, steps["left"], "sluice-box", "nothing is left behind")
	assert.Contains(t, steps["left"], "internet")
}
