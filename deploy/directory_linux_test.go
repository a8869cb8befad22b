package deploy

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// TestDirectoryPod runs both containers of examples/directory as a node would: sluice-kube
// has the token and no power, and the gateway finds it at the socket, which it cannot
// replace. No API server answers here (e2e/kube has one): what is at stake is what the
// manifest says.
func TestDirectoryPod(t *testing.T) {
	net := nettest.NewTopology(t)
	p := only(t, "examples/directory")
	k := newKubelet(t, net.Egress, "nameserver "+nettest.NodeV4+"\n")
	gateway, directory := p.spec.list("containers")[0], p.spec.list("containers")[1]
	shared := emptyDir(t, p)
	volume := newConfigMap(t, map[string]string{"sluice.yaml": p.all.find("ConfigMap", "sluice-rules", p.namespace).text("data", "sluice.yaml")})

	environ := append(p.environ(t, directory), "KUBERNETES_SERVICE_HOST=127.0.0.1", "KUBERNETES_SERVICE_PORT=443")
	d := k.start(p, directory, environ, map[string]string{"/run/sluice": shared, "/var/run/secrets/kubernetes.io/serviceaccount": serviceAccount(t)})
	g := k.start(p, gateway, here(t, p, gateway), map[string]string{"/run/sluice": shared, "/etc/sluice": volume.dir})
	at := func(port, path string) string {
		return curl(t, net, "--noproxy", "*", "-w", "%{http_code}", "http://"+nettest.PodV4+":"+port+path)
	}
	nettest.Eventually(t, "the gateway is at the socket", func() bool { return strings.Contains(at("9091", "/metrics"), "\nsluice_kube_readers 1\n") })
	nettest.Eventually(t, "the gateway is ready", func() bool { return probe(t, net, gateway) == "200" })
	require.True(t, strings.HasSuffix(at("9091", "/healthz"), "200"))
	require.Contains(t, curl(t, net, "http://www.shop.example/"), "this client is no tenant")
	requirePowerless(t, d, "/", "/var/run/secrets/kubernetes.io/serviceaccount", "/proc/sys")
	requirePowerless(t, g, "/", "/etc/sluice", "/run/sluice", "/proc/sys")
	inside := fmt.Sprintf("/proc/%d/root/var/run/secrets/kubernetes.io/serviceaccount", g.cmd.Process.Pid)
	seen, err := os.ReadDir(inside)
	require.NoError(t, err)
	require.Empty(t, seen, "what faces the network has no token")

	// The container of sluice-kube begins anew, over the socket that it has left.
	require.NoError(t, d.cmd.Process.Kill())
	d.exit()
	d = k.start(p, directory, environ, map[string]string{"/run/sluice": shared, "/var/run/secrets/kubernetes.io/serviceaccount": serviceAccount(t)})
	nettest.Eventually(t, "the gateway is at the new one", func() bool { return strings.Contains(at("9091", "/metrics"), "\nsluice_kube_readers 1\n") })
	for _, c := range []*container{d, g} {
		require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
		require.Zero(t, c.exit(), c.log(t))
	}
}

// serviceAccount is the projected volume: a token, and certificates of an API server.
func serviceAccount(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, text := range map[string]string{"token": "token", "ca.crt": string(ca), "namespace": "egress"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}
