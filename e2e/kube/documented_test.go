//go:build linux

package kube

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
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
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	_, err := w.CoreV1().ConfigMaps(g.config.Namespace).Create(t.Context(), &g.config, dry)
	require.NoError(t, err)
	_, err = w.AppsV1().Deployments(g.deployment.Namespace).Create(t.Context(), &g.deployment, dry)
	require.NoError(t, err)
	_, err = w.CoreV1().Services(g.service.Namespace).Create(t.Context(), &g.service, dry)
	require.NoError(t, err)
	return g
}

// runGateway runs the init container and the containers of the gateway in its network namespace, and
// returns its proxy. What is given besides is where volumes, DNS and the
// API server are here, and whose certificates are to be trusted.
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

// Two namespaces have two source addresses of each family on one gateway, which is the
// documentation's, word by word: each server sees those of the pod's namespace, whatever way
// the client takes, and a third namespace is told why it gets nothing.
func TestDocumentedNamespaces(t *testing.T) {
	w := newWorld(t)
	pods := map[string]*nettest.Netns{"shop": w.inNamespace(t, "shop", 17), "ci": w.inNamespace(t, "ci", 33), "other": w.inNamespace(t, "other", 49)}
	proxy := w.runGateway(t, w.gateway(t))
	for _, name := range []string{"shop", "ci", "other"} {
		nettest.Eventually(t, "the pods are known", func() bool {
			w.shell(t, pods[name], "curl -sS http://nowhere.example.net/")
			return strings.Contains(proxy.Stdout(), `"namespace":"`+name+`"`)
		})
	}
	console := docs.Blocks(docs.Section(t, page, "### Two namespaces, two source addresses"), "console")[0]
	docs.Replay(t, console, func(place, script string) string { return w.shell(t, pods[place], script).Out })

	const shop4, shop6, ci4, ci6 = "198.51.100.11", "2001:db8:1::11", "198.51.100.12", "2001:db8:1::12"
	for _, test := range []struct{ pod, v4, v6 string }{{"shop", shop4, shop6}, {"ci", ci4, ci6}} {
		for host, source := range map[string]string{"four.example.com": test.v4, "six.example.com": test.v6, "b4.example.com": test.v4, "b6.example.com": test.v6} {
			for way, answer := range w.everyWay(t, pods[test.pod], host) {
				assert.Equal(t, host+" saw "+source, answer, "%s %s", test.pod, way)
			}
		}
	}
	for way, answer := range w.everyWay(t, pods["other"], "four.example.com") {
		assert.Equal(t, "HTTP/1.1 403 Egress denied: this client is no tenant's", answer, way)
	}
	for _, test := range []struct{ pod, port, v4, v6 string }{{"shop", "5432", shop4, shop6}, {"ci", "5433", ci4, ci6}} {
		for _, addr := range []string{nettest.PodV4, nettest.PodV6} {
			got := []string{w.hear(t, pods[test.pod], addr, test.port), w.hear(t, pods[test.pod], addr, test.port)}
			assert.ElementsMatch(t, []string{"server-b saw " + test.v4, "server-b saw " + test.v6}, got, "%s port %s, whose destinations take turns", addr, test.port)
		}
	}
}

// everyWay asks for a host by GET, in a tunnel, by TLS in a tunnel, and by GET of an https URL, which the gateway
// itself gets by TLS. Each answer is its body, or the status line of a refusal.
func (w *world) everyWay(t *testing.T, pod *nettest.Netns, host string) map[string]string {
	t.Helper()
	answers := map[string]string{}
	for way, args := range map[string]string{"GET": "http://" + host, "CONNECT": "--proxytunnel http://" + host, "CONNECT, TLS": "https://" + host} {
		got := w.shell(t, pod, "curl -sSi "+args+"/")
		answers[way] = answerOf(got.Out)
	}
	c, err := pod.DialContext(t.Context(), "tcp", nettest.PodV4+":8080")
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "GET https://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	answers["absolute https"] = answerOf(string(all))
	return answers
}

// answerOf is the body of an answer that is good, or the status line.
func answerOf(heads string) string {
	status, _, _ := strings.Cut(heads, "\r\n")
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return status
	}
	body := strings.TrimSpace(heads)
	return strings.TrimSpace(body[strings.LastIndex(body, "\n")+1:])
}

// hear connects to a port of the gateway, and returns the line that comes.
func (w *world) hear(t *testing.T, pod *nettest.Netns, addr, port string) string {
	t.Helper()
	c, err := pod.DialContext(context.Background(), "tcp", net.JoinHostPort(addr, port))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// A CI job shows the token of its service account, as the documentation has it, word by word;
// without one, or with another's, it gets nothing.
func TestDocumentedJob(t *testing.T) {
	w := newWorld(t)
	section := docs.Section(t, page, "### A CI job with a token")
	blocks := docs.Blocks(section, "yaml")
	g := w.gateway(t)
	g.config.Data["sluice.yaml"] = blocks[0]
	proxy := w.runGateway(t, g)

	var account corev1.ServiceAccount
	var job batchv1.Job
	manifests(t, blocks[1], &account, &job)
	w.ensure(t, job.Namespace)
	_, err := w.CoreV1().ServiceAccounts(account.Namespace).Create(t.Context(), &account, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = w.BatchV1().Jobs(job.Namespace).Create(t.Context(), &job, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)

	// What the controller and the kubelet do: a pod, with the token in its volume.
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "build-0", Namespace: job.Namespace}, Spec: job.Spec.Template.Spec}
	pod, err = w.CoreV1().Pods(job.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { w.gone(t, pod) })
	where := w.Pod(t, "job", "10.128.0.65/24", "fd00:128::65/64")
	token := w.projected(t, pod, pod.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken)
	mounted := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(mounted, "token"), []byte(token), 0o600))
	container := pod.Spec.Containers[0]
	require.Equal(t, []string{"sh", "-ec"}, container.Command[:2])
	script := strings.NewReplacer(container.VolumeMounts[0].MountPath, mounted, "@sluice.egress.svc:8080", "@"+nettest.PodV4+":8080").Replace(container.Command[2])

	got := w.shell(t, where, "set -e\n"+script)
	assert.Equal(t, strings.Repeat("mirror.example.com saw 198.51.100.12\n", 2), got.Out, got.Err)
	assert.Zero(t, got.Status)

	for name, test := range map[string]struct{ password, want string }{
		"no token":            {"", "HTTP/1.1 407 Proxy Authentication Required"},
		"a token for the API": {w.token(t, job.Namespace, account.Name, nil), "HTTP/1.1 407 Proxy Authentication Required"},
		"another's token":     {w.token(t, "egress", "sluice-directory", nil, "sluice"), "HTTP/1.1 403 Egress denied: this client is no tenant's"},
	} {
		for _, url := range []string{"http://mirror.example.com/", "https://mirror.example.com/"} {
			args := "-sSi "
			if test.password != "" {
				args += "--proxy-user token:" + test.password + " "
			}
			assert.Contains(t, answerOf(w.shell(t, where, "curl "+args+url).Out), test.want, name)
		}
	}
	nettest.Eventually(t, "the log has it", func() bool { return strings.Contains(proxy.Stdout(), `"tenant":"builds","user":"ci/builder"`) })
	assert.NotContains(t, proxy.Stdout()+proxy.Stderr(), token)
}

// projected is the token that a kubelet gets for a volume.
func (w *world) projected(t *testing.T, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) string {
	t.Helper()
	got, err := w.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(t.Context(), pod.Spec.ServiceAccountName, &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		Audiences: []string{p.Audience}, ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return got.Status.Token
}
