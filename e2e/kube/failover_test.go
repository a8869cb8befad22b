//go:build linux

package kube

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/e2e/internal/stepped"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// failover is a gateway of several replicas that share an address: the real programs in
// network namespaces, and the real API server.
type failover struct {
	*nettest.Replicas
	t        testing.TB
	c        *cluster
	ns       string // of Kubernetes
	service  string
	setup    setup
	replicas []*replica

	mu    sync.Mutex
	steps []*stepped.Process // all that there were
}

// lease is the name of the Lease of the address that all share.
const lease = "sluice-198-51-100-60"

// setup says how the programs are run. The zero setup runs them as they ship.
type setup struct {
	stepped  bool   // a test stands between them and the kernel
	clock    bool   // and their wall clock says what it wants; wants stepped
	netsetup string // the path of another sluice-netsetup; "": the one that ships
	spare    int    // so many of the replicas are not started
	logs     bool   // the proxies have an access log
	blind    bool   // nobody looks for a duplicate
	pool     string // EGRESS_POOL; "": all have one group
	both     bool   // the pods that are started have an IPv6 address as well, as far as they are told
}

// replica is one pod: three programs, as its containers are.
type replica struct {
	f     *failover
	index int
	ns    *nettest.Netns
	dir   string
	api   *relay
	pod   *corev1.Pod
	runs  int

	kernel *kernelLog

	settings []string // flags of sluice-kube hold

	netsetup, kube, proxy *part
}

// part is a program of a replica.
type part struct {
	cmd   *exec.Cmd
	log   string
	done  chan struct{}
	steps *stepped.Process // nil: it is not stepped
}

// newFailover makes n replicas that wait for their turn; settings are flags of sluice-kube hold.
func newFailover(t testing.TB, n int, settings ...string) *failover {
	t.Helper()
	use(t)
	return setup{}.failover(t, nettest.NewReplicas(t, n), settings...)
}

// failover is newFailover on a network that is there.
func (s setup) failover(t testing.TB, n *nettest.Replicas, settings ...string) *failover {
	t.Helper()
	c := use(t)
	if s.netsetup == "" {
		s.netsetup = program.Netsetup(t)
	}
	f := &failover{Replicas: n, t: t, c: c, ns: c.namespace(t, "failover"), service: "sluice", setup: s}
	f.rights()
	f.leads()
	f.serve()
	for i := range n.Pods {
		r := &replica{f: f, index: i, ns: f.Pods[i], dir: t.TempDir(), kernel: listenToFence(t, f.Pods[i])}
		r.api = c.relayOn(t, r.ns.Listen("127.0.0.1:0"))
		f.replicas = append(f.replicas, r)
		r.settings = settings
		if i < len(n.Pods)-s.spare {
			r.start()
		}
	}
	t.Cleanup(func() {
		for _, r := range f.replicas {
			r.kill()
			if t.Failed() {
				t.Log(r.said())
			}
		}
	})
	return f
}

// rights gives the gateway's account what the component failover says, in the namespace of the
// test.
func (f *failover) rights() {
	f.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kustomize", "components", "failover", "rbac.yaml"))
	require.NoError(f.t, err)
	docs := bytes.Split(text, []byte("\n---\n"))
	require.Len(f.t, docs, 2)
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	for i, into := range []any{&role, &binding} {
		require.NoError(f.t, yaml.UnmarshalStrict(docs[i], into))
	}
	role.Namespace, binding.Namespace, binding.Subjects[0].Namespace = f.ns, f.ns, f.ns
	account := corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: binding.Subjects[0].Name, Namespace: f.ns}}
	ctx := f.t.Context()
	_, err = f.c.CoreV1().ServiceAccounts(f.ns).Create(ctx, &account, metav1.CreateOptions{})
	require.NoError(f.t, err)
	_, err = f.c.RbacV1().Roles(f.ns).Create(ctx, &role, metav1.CreateOptions{})
	require.NoError(f.t, err)
	_, err = f.c.RbacV1().RoleBindings(f.ns).Create(ctx, &binding, metav1.CreateOptions{})
	require.NoError(f.t, err)
}

// serve runs the server outside: it answers with the address that it sees, and echoes what
// comes on port 7.
func (f *failover) serve() {
	f.t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, netip.MustParseAddrPort(r.RemoteAddr).Addr())
	}), ReadHeaderTimeout: time.Minute}
	for _, addr := range []string{nettest.ServerAV4, nettest.ServerAV6} {
		l := f.Server.Listen(net.JoinHostPort(addr, "80"))
		go s.Serve(l)
	}
	f.t.Cleanup(func() { s.Close() })
	echo := f.Server.Listen(nettest.ServerAV4 + ":7")
	f.t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 100)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					c.Write(b[:n])
				}
			}()
		}
	}()
}

// start starts the programs, as those of a new pod.
func (r *replica) start(settings ...string) {
	t := r.f.t
	t.Helper()
	r.runs++
	r.pod = r.f.c.pod(t, r.f.ns, fmt.Sprintf("sluice-%d-%d", r.index, r.runs), nettest.PodOf(r.index))
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %q}}]
`, r.api.addr, r.f.c.token(t, r.f.ns, "sluice", nil))
	require.NoError(t, os.WriteFile(r.path("kubeconfig"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(r.path("rules"), []byte("*\n"), 0o600))
	if len(settings) > 0 { // else as before
		r.settings = settings
	}
	for _, name := range programs {
		r.startOne(name)
	}
}

// programs of a replica, in the order of their start.
var programs = []string{"netsetup", "kube", "proxy"}

// startOne starts one program, as a kubelet does with a container that has ended.
func (r *replica) startOne(name string) {
	t := r.f.t
	t.Helper()
	switch name {
	case "netsetup":
		source := "EGRESS_SOURCE=" + nettest.HeldV4 + "/24," + nettest.HeldV6 + "/64"
		if r.f.setup.pool != "" {
			source = "EGRESS_POOL=" + r.f.setup.pool
		}
		r.netsetup = r.run(name, r.f.setup.netsetup, []string{"EGRESS_ROUTER_MODE=http-proxy", source, "EGRESS_GATEWAY=" + nettest.GatewayV4 + "," + nettest.GatewayV6},
			"hold", "--hold-socket", r.path("hold.sock"), fmt.Sprint("--probe=", !r.f.setup.blind))
	case "kube":
		ips := "POD_IPS=" + nettest.PodOf(r.index)
		if r.f.setup.both {
			ips += fmt.Sprintf(",fd00:128::%x", 0x100+r.index)
		}
		r.kube = r.run(name, program.Kube(t), []string{"POD_NAME=" + r.pod.Name, "POD_NAMESPACE=" + r.f.ns, "POD_UID=" + string(r.pod.UID), ips},
			append([]string{"hold", "--netsetup", r.path("hold.sock"), "--socket", r.path("serving.sock"), "--kubeconfig", r.path("kubeconfig"), "--admin", "off", "--service", r.f.service}, r.settings...)...)
	case "proxy":
		access := "off"
		if r.f.setup.logs {
			access = r.path("access.log")
		}
		source := []string{"EGRESS_SOURCE=" + nettest.HeldV4 + "," + nettest.HeldV6}
		if r.f.setup.pool != "" {
			source = nil // it takes what is held
		}
		r.proxy = r.run(name, program.Racy(t), source,
			"proxy", "--listen", ":8080", "--admin", "off", "--rules", r.path("rules"), "--holder", r.path("serving.sock"), "--access-log", access)
	}
}

// part is the program of that name that runs, or has run last.
func (r *replica) part(name string) *part {
	return map[string]*part{"netsetup": r.netsetup, "kube": r.kube, "proxy": r.proxy}[name]
}

func (r *replica) path(name string) string { return filepath.Join(r.dir, name) }

// run runs a program in the pod.
func (r *replica) run(name, path string, env []string, args ...string) *part {
	t := r.f.t
	t.Helper()
	p := &part{log: r.path(fmt.Sprintf("%s-%d.log", name, r.runs)), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer out.Close()
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	require.NoError(t, r.ns.Do(func() (err error) {
		if r.f.setup.stepped {
			p.steps, err = stepped.Start(p.cmd, r.f.setup.clock)
			r.f.mu.Lock()
			defer r.f.mu.Unlock()
			r.f.steps = append(r.f.steps, p.steps)
			return err
		}
		return p.cmd.Start()
	}))
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// parts are the programs that were started last.
func (r *replica) parts() (all []*part) {
	for _, p := range []*part{r.netsetup, r.kube, r.proxy} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// signal sends all programs a signal, as a kubelet does that knows no native sidecars, or a
// node that is gone.
func (r *replica) signal(s syscall.Signal) {
	for _, p := range r.parts() {
		p.cmd.Process.Signal(s)
	}
}

// kill ends all programs, and waits for that.
func (r *replica) kill() {
	r.signal(syscall.SIGCONT)
	r.signal(syscall.SIGKILL)
	for _, p := range r.parts() {
		<-p.done
	}
}

// ended waits until all programs have ended by themselves.
func (r *replica) ended() {
	for _, p := range r.parts() {
		r.await(p)
	}
}

// await waits until a program has ended.
func (r *replica) await(p *part) {
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		r.f.t.Fatalf("%s has not ended:\n%s", p.log, r.said())
	}
}

// running are the programs that have not ended.
func (r *replica) running() (all []*part) {
	for _, p := range r.parts() {
		select {
		case <-p.done:
		default:
			all = append(all, p)
		}
	}
	return all
}

// said is what the programs have written.
func (r *replica) said() string {
	var b strings.Builder
	files, _ := filepath.Glob(r.path("*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "== replica %d, %s\n%s", r.index, filepath.Base(f), text)
	}
	return b.String()
}

// saidNow is what the programs that run now have written.
func (r *replica) saidNow() string {
	var b strings.Builder
	for _, p := range r.parts() {
		text, _ := os.ReadFile(p.log)
		b.Write(text)
	}
	return b.String()
}

// takes is how often a replica has taken the address.
func (f *failover) takes() (n int) {
	for _, r := range f.replicas {
		n += lines(r.said(), `"the address is held here"`)
	}
	return n
}

// endpoint is the address of the holder, as the Service leads to it; "" for none.
func (f *failover) endpoint() string {
	s, err := f.c.DiscoveryV1().EndpointSlices(f.ns).List(f.t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + f.service})
	if err != nil {
		return ""
	}
	for _, slice := range s.Items {
		for _, e := range slice.Endpoints {
			return net.JoinHostPort(e.Addresses[0], fmt.Sprint(*slice.Ports[0].Port))
		}
	}
	return ""
}

// holder is the replica that the Service leads to.
func (f *failover) holder() *replica {
	host, _, _ := net.SplitHostPort(f.endpoint())
	for i, r := range f.replicas {
		if host == nettest.PodOf(i) {
			return r
		}
	}
	return nil
}

// awaitHolder waits until some replica holds, and it is not that one.
func (f *failover) awaitHolder(not *replica) (r *replica) {
	f.t.Helper()
	nettest.Eventually(f.t, "a replica holds the address", func() bool {
		r = f.holder()
		return r != nil && r != not
	})
	return r
}
