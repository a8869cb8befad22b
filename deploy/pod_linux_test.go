package deploy

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// asTheNodeLeavesIt undoes in the egress pod what the topology has done of the init
// container's work: macvlan0 is down and without addresses, and everything leaves
// by the cluster's network.
func asTheNodeLeavesIt(t *testing.T, p *nettest.Topology) {
	t.Helper()
	require.NoError(t, p.Egress.Do(func() error {
		l, err := netlink.LinkByName("macvlan0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(l); err != nil { // and the routes are gone
			return err
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if err := netlink.AddrDel(l, &a); err != nil {
				return err
			}
		}
		return nil
	}))
	p.Egress.Route("default", nettest.NodeV4)
	p.Egress.Route("default", nettest.NodeV6)
}

// outside starts a server on server A that tells each client its address.
func outside(t *testing.T, p *nettest.Topology) {
	t.Helper()
	for _, addr := range []string{nettest.ServerAV4, nettest.ServerAV6} {
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host := r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ":")]
			fmt.Fprintf(w, "you come from %s\n", strings.Trim(host, "[]"))
		})}
		l := p.ServerA.Listen(nettest.Bracketed(addr) + ":80")
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}
}

// curl asks for the URL by the proxy, as the client of examples/clients would.
func curl(t *testing.T, p *nettest.Topology, args ...string) string {
	t.Helper()
	nettest.Need(t, "curl")
	cmd := exec.Command("curl", append([]string{"-sS", "--max-time", "20"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "http_proxy=http://" + nettest.PodV4 + ":8080"}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, p.Client.Start(cmd))
	_ = cmd.Wait() // what it says tells
	return out.String()
}

// here is the environment of the manifest with the addresses of the topology.
func here(t *testing.T, p pod, c object) (environ []string) {
	t.Helper()
	for _, kv := range p.environ(t, c) {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "EGRESS_SOURCE":
			kv = "EGRESS_SOURCE=" + nettest.SourceV4 + "/24, " + nettest.SourceV6 + "/64"
		case "EGRESS_POOL":
			kv = "EGRESS_POOL=" + nettest.SourceV4 + "/24," + nettest.SourceV6 + "/64 198.51.100.51/24"
		case "EGRESS_GATEWAY":
			kv = "EGRESS_GATEWAY=198.51.100.1, 2001:db8:1::1"
		}
		environ = append(environ, kv)
	}
	return environ
}

// TestPod runs the Deployment's containers one after the other, as a node would,
// with the programs of the image.
func TestPod(t *testing.T) {
	net := nettest.NewTopology(t)
	asTheNodeLeavesIt(t, net)
	outside(t, net)
	dns := net.DNS(t)
	dns.Set("www.example.com", nettest.Addrs(nettest.ServerAV4))
	dns.Set("six.example.com", nettest.Addrs(nettest.ServerAV6))
	p := only(t, "kustomize/overlays/openshift-sdn")
	k := newKubelet(t, net.Egress, "nameserver "+nettest.NodeV4+"\n")
	init, main := p.spec.list("initContainers")[0], p.spec.list("containers")[0]
	rules := p.all.find("ConfigMap", "sluice-rules", p.namespace).text("data", "rules.txt")
	volume := newConfigMap(t, map[string]string{"rules.txt": rules})

	// The second time is a restart of the pod's sandbox or of the container.
	for range 2 {
		c := k.start(p, init, here(t, p, init), nil)
		require.Zero(t, c.exit(), c.log(t))
	}
	c := k.start(p, main, here(t, p, main), map[string]string{"/etc/sluice": volume.dir})
	nettest.Eventually(t, "it is ready", func() bool {
		return strings.Contains(curl(t, net, "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "http://"+nettest.PodV4+":9090/readyz"), "200")
	})
	requirePowerless(t, c, "/", "/etc/sluice", "/proc/sys")

	require.Equal(t, "you come from "+nettest.SourceV4+"\n", curl(t, net, "http://www.example.com/"))
	require.Equal(t, "you come from "+nettest.SourceV6+"\n", curl(t, net, "http://six.example.com/"))
	require.Equal(t, "you come from "+nettest.SourceV4+"\n", curl(t, net, "--proxytunnel", "http://"+nettest.ServerAV4+"/"))
	require.Contains(t, curl(t, net, "http://telemetry.example.com/"), "!telemetry.example.com")

	volume.write(map[string]string{"rules.txt": "!www.example.com\n" + rules})
	nettest.Eventually(t, "the changed ConfigMap is in force", func() bool {
		return strings.Contains(curl(t, net, "http://www.example.com/"), "!www.example.com")
	})
	require.Equal(t, "you come from "+nettest.SourceV6+"\n", curl(t, net, "http://six.example.com/"))

	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, c.exit())
}

// requirePowerless looks at what the kernel says of the main container: a user
// without capabilities, for whom these mounts are read-only.
func requirePowerless(t *testing.T, c *container, readOnly ...string) {
	t.Helper()
	requireStatus(t, c, "Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "Groups:\t *",
		"CapInh:\t0{16}", "CapPrm:\t0{16}", "CapEff:\t0{16}", "CapBnd:\t0{16}", "CapAmb:\t0{16}", "NoNewPrivs:\t1")
	requireReadOnly(t, c, readOnly...)
}

// requireStatus wants the lines in the status of the container's process.
func requireStatus(t *testing.T, c *container, lines ...string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	require.NoError(t, err)
	for _, want := range lines {
		require.Regexp(t, regexp.MustCompile("(?m)^"+want+"$"), string(status))
	}
}

func requireReadOnly(t *testing.T, c *container, mounts ...string) {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", c.cmd.Process.Pid))
	require.NoError(t, err)
	for _, at := range mounts {
		require.Regexp(t, regexp.MustCompile(`(?m)^\d+ \d+ \S+ \S+ `+regexp.QuoteMeta(at)+` ro[, ]`), string(info))
	}
}

// TestOldInitContainer runs the init container as pod specifications of the egress
// router have it: no command; privileged, and no word of the user, who was root in
// that image and is nobody in this one.
func TestOldInitContainer(t *testing.T) {
	net := nettest.NewTopology(t)
	asTheNodeLeavesIt(t, net)
	k := newKubelet(t, net.Egress, "")
	old := object{
		"name":            "egress-router",
		"securityContext": map[string]any{"privileged": true},
	}
	c := k.start(pod{}, old, []string{
		"EGRESS_ROUTER_MODE=http-proxy", "EGRESS_SOURCE=" + nettest.SourceV4, "EGRESS_GATEWAY=198.51.100.1",
	}, nil)
	require.Zero(t, c.exit(), c.log(t))
	require.NoError(t, net.Egress.Do(func() error {
		out, err := exec.Command("ip", "route", "get", nettest.ServerAV4).CombinedOutput()
		require.Contains(t, string(out), "via 198.51.100.1 dev macvlan0 src "+nettest.SourceV4)
		return err
	}))
}
