//go:build linux

package kube

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const page = "../../docs/tenants.md"

// world is the network around a gateway as the documentation has it: pods of real
// namespaces in network namespaces, two servers outside, and DNS.
type world struct {
	*nettest.Topology
	*cluster
	dns *nettest.DNS
	ca  string // a file with the certificate of the servers' authority
	dir string // what is in the gateway's volumes
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Topology: nettest.NewTopology(t), cluster: use(t), dir: t.TempDir()}
	w.dns = w.DNS(t)
	w.ca = filepath.Join(t.TempDir(), "ca.pem")
	for ns, addrs := range map[*nettest.Netns][]string{w.ServerA: {nettest.ServerAV4, nettest.ServerAV6}, w.ServerB: {nettest.ServerBV4, nettest.ServerBV6}} {
		for _, addr := range addrs {
			w.serve(t, ns, addr)
		}
	}
	for name, addrs := range map[string][]string{
		"four.example.com": {nettest.ServerAV4}, "six.example.com": {nettest.ServerAV6},
		"b4.example.com": {nettest.ServerBV4}, "b6.example.com": {nettest.ServerBV6}, "mirror.example.net": {nettest.ServerBV4},
		"www.example.com": {nettest.ServerAV4, nettest.ServerAV6}, "db.example.com": {nettest.ServerBV4, nettest.ServerBV6}, "mirror.example.com": {nettest.ServerBV4},
	} {
		w.dns.Set(name, nettest.Addrs(addrs...))
	}
	// As the node leaves the gateway's pod: the rest is the work of its init container.
	for _, args := range []string{"address flush dev macvlan0", "link set macvlan0 down", "route add default via " + nettest.NodeV4, "-6 route add default via " + nettest.NodeV6} {
		got := program.Command(t, w.Egress, nil, "ip", strings.Fields(args)...)
		require.Zero(t, got.Status, "ip %s: %s", args, got.Err)
	}
	return w
}

// serve has servers of HTTP, of HTTPS and of a TCP protocol that speaks first, which say what
// they are asked for and by whom.
func (w *world) serve(t *testing.T, ns *nettest.Netns, addr string) {
	t.Helper()
	for port, secure := range map[string]bool{"80": false, "443": true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Empty(t, r.Header.Get("Proxy-Authorization"))
			fmt.Fprintf(w, "%s saw %s\n", r.Host, netip.MustParseAddrPort(r.RemoteAddr).Addr())
		}))
		require.NoError(t, s.Listener.Close())
		s.Listener = ns.Listen(net.JoinHostPort(addr, port))
		if secure {
			s.StartTLS()
			require.NoError(t, os.WriteFile(w.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
	}
	l := ns.Listen(net.JoinHostPort(addr, "5432"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "%s saw %s\n", ns.Name, c.RemoteAddr().(*net.TCPAddr).IP)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

// inNamespace makes a pod of a namespace, here and in the API.
func (w *world) inNamespace(t *testing.T, name string, last int) *nettest.Netns {
	t.Helper()
	w.ensure(t, name)
	v4, v6 := fmt.Sprintf("10.128.0.%d", last), fmt.Sprintf("fd00:128::%d", last)
	p := w.pod(t, name, "client", v4, v6)
	t.Cleanup(func() { w.gone(t, p) })
	return w.Pod(t, name, v4+"/24", v6+"/64")
}

// gone removes a pod when the test has ended: no later one shall find its address taken.
func (w *world) gone(t *testing.T, p *corev1.Pod) {
	now := int64(0)
	assert.NoError(t, w.CoreV1().Pods(p.Namespace).Delete(context.Background(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// ensure makes a namespace of exactly that name.
func (w *world) ensure(t *testing.T, name string) {
	t.Helper()
	_, err := w.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
}

// manifests are the objects of a block, which have no field that their kinds do not.
func manifests(t *testing.T, block string, into ...any) {
	t.Helper()
	texts := strings.Split(block, "\n---\n")
	require.Len(t, texts, len(into))
	for i := range into {
		require.NoError(t, yaml.UnmarshalStrict([]byte(texts[i]), into[i]))
	}
}

// gateway is what the documentation has of it: its objects, which the API server takes.
type gateway struct {
	config     corev1.ConfigMap
	deployment appsv1.Deployment
	service    corev1.Service
}

func (w *world) gateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{}
	manifests(t, docs.Blocks(docs.Section(t, page, "### Two namespaces, two source addresses"), "yaml")[0], &g.config, &g.deployment, &g.service)
	// Under names of their own: those of other manifests may be there.
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	config, deployment, service := g.config.DeepCopy(), g.deployment.DeepCopy(), g.service.DeepCopy()
	for _, o := range []metav1.Object{config, deployment, service} {
		o.SetName(o.GetName() + "-documented")
	}
	_, err := w.CoreV1().ConfigMaps(config.Namespace).Create(t.Context(), config, dry)
	require.NoError(t, err)
	_, err = w.AppsV1().Deployments(deployment.Namespace).Create(t.Context(), deployment, dry)
	require.NoError(t, err)
	_, err = w.CoreV1().Services(service.Namespace).Create(t.Context(), service, dry)
	require.NoError(t, err)
	return g
}

// runGateway runs the init container and the containers of the gateway in its network
// namespace, and returns its proxy. What is given besides is where volumes, DNS and the API
// server are here, and whose certificates are to be trusted.
func (w *world) runGateway(t *testing.T, g *gateway) (proxy *program.Program) {
	t.Helper()
	spec := g.deployment.Spec.Template.Spec
	here := strings.NewReplacer("/etc/sluice/", w.dir+"/", "/run/sluice/", w.dir+"/")
	for name, text := range g.config.Data {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, name), []byte(here.Replace(text)), 0o600))
	}

	require.Equal(t, []string{"/sluice-netsetup"}, spec.InitContainers[0].Command)
	var env []string
	for _, v := range spec.InitContainers[0].Env {
		env = append(env, v.Name+"="+v.Value)
	}
	got := program.Command(t, w.Egress, env, program.Netsetup(t))
	require.Zero(t, got.Status, got.Err)

	for i := len(spec.Containers) - 1; i >= 0; i-- { // the directory first: what is tested is not the waiting for it
		var args []string
		for _, a := range spec.Containers[i].Args {
			args = append(args, here.Replace(a))
		}
		switch args[0] {
		case "directory":
			require.Equal(t, []string{"/sluice-kube"}, spec.Containers[i].Command)
			require.Equal(t, []string{"directory", "--socket=" + w.dir + "/directory.sock", "--admin=:9091"}, args)
			w.run(t, filepath.Join(w.dir, "directory.sock"), nil)
		default:
			p := program.Start(t, program.Setup{Netns: w.Egress, Bare: true, Args: args, Env: []string{"SLUICE_RESOLVER=" + nettest.NodeV4, "SLUICE_UPSTREAM_CA=" + w.ca}})
			if args[0] == "proxy" {
				proxy = p
			}
		}
	}
	require.NotNil(t, proxy)
	nettest.Eventually(t, "it is ready", func() bool { status, _ := proxy.Ask("/readyz"); return status == 200 })
	return proxy
}

// shell runs a script in a pod, as its clients are set up.
func (w *world) shell(t *testing.T, pod *nettest.Netns, script string) program.Output {
	t.Helper()
	const proxy = "http://" + nettest.PodV4 + ":8080"
	return program.Command(t, pod, []string{"http_proxy=" + proxy, "https_proxy=" + proxy, "CURL_CA_BUNDLE=" + w.ca}, "sh", "-c", script)
}
