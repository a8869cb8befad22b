package deploy

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// TestFailoverPod runs the containers of the overlays active-standby and pool as a node would,
// and one on OpenShift, which gives each pod a group: they find each other's sockets, and who
// faces the network finds one only. No API server answers here (e2e/kube has one), so nothing
// is held, and the gateway is ready all the same.
func TestFailoverPod(t *testing.T) {
	for _, c := range []struct {
		overlay string
		fsGroup int // 0: none
		leases  int
	}{{"active-standby", 0, 1}, {"active-standby", 1000650000, 1}, {"pool", 0, 2}} {
		t.Run(fmt.Sprint(c.overlay, c.fsGroup), func(t *testing.T) {
			p := only(t, "kustomize/overlays/"+c.overlay)
			if c.fsGroup != 0 {
				p.spec.object("securityContext")["fsGroup"] = c.fsGroup
			}
			holdingPod(t, p, c.leases)
		})
	}
}

func holdingPod(t *testing.T, p pod, leases int) {
	net := nettest.NewTopology(t)
	asTheNodeLeavesIt(t, net)
	k := newKubelet(t, net.Egress, "nameserver "+nettest.NodeV4+"\n")
	rules := newConfigMap(t, map[string]string{"rules.txt": p.all.find("ConfigMap", "sluice-rules", p.namespace).text("data", "rules.txt")})
	volumes := map[string]string{"netsetup-socket": emptyDir(t, p), "holder-socket": emptyDir(t, p), "holder-token": serviceAccount(t), "rules": rules.dir}
	running, order := map[string]*container{}, []string(nil)
	for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
		mounted := map[string]string{}
		for _, m := range c.list("volumeMounts") {
			mounted[m.text("mountPath")] = volumes[m.text("name")]
		}
		environ := append(here(t, p, c), "KUBERNETES_SERVICE_HOST=127.0.0.1", "KUBERNETES_SERVICE_PORT=443")
		running[c.text("name")] = k.start(p, c, environ, mounted)
		order = append(order, c.text("name"))
	}
	gateway := p.spec.list("containers")[0]
	nettest.Eventually(t, "the gateway is ready", func() bool { return probe(t, net, gateway) == "200" })
	says := func(name, what string) {
		t.Helper()
		nettest.Eventually(t, name+" says: "+what, func() bool { return strings.Contains(running[name].log(t), what) })
	}
	says("hold", fmt.Sprintf(`"holding","groups":%d`, leases))
	says("hold", "a proxy has come")
	says("hold", "the API server could not be asked about the Lease")
	metrics := curl(t, net, "--noproxy", "*", "http://"+nettest.PodV4+":9092/metrics")
	assert.Equal(t, leases, strings.Count(metrics, "\nsluice_hold_holding{"), metrics)
	assert.True(t, strings.HasSuffix(curl(t, net, "--noproxy", "*", "-w", "%{http_code}", "http://"+nettest.PodV4+":9092/healthz"), "200"))

	// Two capabilities and no more for who has the addresses, and none for the others.
	requireStatus(t, running["netsetup"], "Uid:\t0\t0\t0\t0", "CapPrm:\t0{12}3000", "CapEff:\t0{12}3000", "CapBnd:\t0{12}3000", "NoNewPrivs:\t1")
	for _, name := range []string{"hold", "sluice"} {
		requireStatus(t, running[name], "Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0{16}", "CapEff:\t0{16}", "CapBnd:\t0{16}", "NoNewPrivs:\t1")
	}
	requireReadOnly(t, running["sluice"], "/", "/etc/sluice", "/run/sluice-kube", "/proc/sys")
	requireReadOnly(t, running["hold"], "/", "/run/sluice-netsetup", "/var/run/secrets/kubernetes.io/serviceaccount")
	for _, at := range []string{"run/sluice-netsetup", "var/run/secrets/kubernetes.io/serviceaccount"} {
		seen, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/%s", running["sluice"].cmd.Process.Pid, at))
		require.NoError(t, err)
		require.Empty(t, seen, "what faces the network has none of this")
	}
	for path, mode := range map[string]os.FileMode{volumes["netsetup-socket"] + "/hold.sock": 0o660, volumes["holder-socket"] + "/serving.sock": 0o660} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}

	// The kubelet ends them the other way round, each when the one before has ended.
	require.ElementsMatch(t, order, slices.Collect(maps.Keys(running)))
	for _, name := range slices.Backward(order) {
		require.NoError(t, running[name].cmd.Process.Signal(syscall.SIGTERM))
		require.Zero(t, running[name].exit(), "%s: %s", name, running[name].log(t))
	}
}
