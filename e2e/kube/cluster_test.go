//go:build linux

package kube

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// cluster is an API server with its etcd. One serves all tests, which use namespaces of
// their own.
type cluster struct {
	*kubernetes.Clientset
	dir     string
	program string
	etcdURL string
	port    string
	server  *exec.Cmd
	etcd    *exec.Cmd
	starts  chan func()        // done by a thread that stays: a process ends with the thread that started it (Pdeathsig)
	role    rbacv1.ClusterRole // as deploy has it
	mapper  meta.RESTMapper    // where the API server has which kind; nil: not asked yet
}

// kustomize is where the manifests are.
var kustomize = filepath.Join("..", "..", "deploy", "kustomize")

var (
	shared  *cluster
	missing string // why there is none
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		c, err := begin()
		if err != nil {
			var not *absent
			if !errors.As(err, &not) {
				fmt.Fprintln(os.Stderr, "start a cluster:", err)
				return 1
			}
			missing = err.Error()
		} else {
			shared = c
			defer c.end()
		}
		status := program.Main(m)
		if status == 0 && *updateTimes {
			if err := writeTimes(); err != nil {
				fmt.Fprintln(os.Stderr, "write the table of times:", err)
				return 1
			}
		}
		return status
	}())
}

// absent is the error of what is not installed.
type absent struct{ what string }

func (a *absent) Error() string { return a.what }

// use is the cluster, or skips the test.
func use(t testing.TB) *cluster {
	t.Helper()
	if shared == nil {
		t.Skip(missing)
	}
	return shared
}

func begin() (*cluster, error) {
	server, err := nettest.Tool(filepath.Join("..", ".."), "kube", "kube-apiserver", "k8s.io/kubernetes")
	if err != nil {
		return nil, &absent{err.Error()}
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		return nil, &absent{"etcd is not installed (Debian: etcd-server)"}
	}
	dir, err := os.MkdirTemp("", "sluice-kube-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, program: server, port: freePort(), starts: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for start := range c.starts {
			start()
		}
	}()
	c.etcdURL = "http://127.0.0.1:" + freePort()
	peer := "http://127.0.0.1:" + freePort()
	if err := c.files(); err != nil {
		return nil, err
	}
	c.etcd, err = c.start("etcd", etcd, "--data-dir="+filepath.Join(dir, "data"), "--unsafe-no-fsync", "--listen-client-urls="+c.etcdURL, "--advertise-client-urls="+c.etcdURL,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	if err != nil {
		return nil, err
	}
	c.Clientset, err = kubernetes.NewForConfig(c.config("admin-token"))
	if err == nil {
		err = c.up()
	}
	if err == nil {
		err = c.roles()
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

func freePort() string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// files are the key that signs tokens, and the token of the tests themselves.
func (c *cluster) files() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return errors.Join(os.WriteFile(c.path("sa.key"), text, 0o600),
		os.WriteFile(c.path("tokens.csv"), []byte("admin-token,admin,1,system:masters\n"), 0o600))
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) start(name, path string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(path, args...)
	out, err := os.OpenFile(c.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	c.starts <- func() { started <- cmd.Start() }
	return cmd, <-started
}

// up starts the API server, and waits until it is ready.
func (c *cluster) up() error {
	var err error
	c.server, err = c.start("kube-apiserver", c.program, "--etcd-servers="+c.etcdURL, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+c.port,
		"--cert-dir="+c.path("certs"), "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.path("sa.key"),
		"--service-account-signing-key-file="+c.path("sa.key"), "--token-auth-file="+c.path("tokens.csv"), "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged", "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount")
	if err != nil {
		return err
	}
	ready := nettest.Within(90*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return c.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil
	})
	if !ready {
		log, _ := os.ReadFile(c.path("kube-apiserver.log"))
		return fmt.Errorf("the API server is not ready:\n%s", log[max(0, len(log)-4000):])
	}
	return nil
}

// down ends the API server.
func (c *cluster) down() {
	_ = c.server.Process.Kill()
	_ = c.server.Wait()
	c.server = nil
}

func (c *cluster) end() {
	if c.server != nil {
		c.down()
	}
	_ = c.etcd.Process.Kill()
	_ = c.etcd.Wait()
	_ = os.RemoveAll(c.dir)
}

func (c *cluster) config(token string) *rest.Config {
	return &rest.Config{Host: "https://127.0.0.1:" + c.port, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
}

// roles makes what the component of deploy says, for the gateway's account.
func (c *cluster) roles() error {
	text, err := os.ReadFile(filepath.Join(kustomize, "components", "directory", "rbac.yaml"))
	if err != nil {
		return err
	}
	docs := bytes.Split(text, []byte("\n---\n"))
	var binding rbacv1.ClusterRoleBinding
	if len(docs) != 2 {
		return fmt.Errorf("%d objects", len(docs))
	}
	for i, into := range []any{&c.role, &binding} {
		if err := yaml.UnmarshalStrict(docs[i], into); err != nil {
			return err
		}
	}
	binding.Subjects[0].Namespace = "egress" // as kustomize does
	sa := corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: binding.Subjects[0].Name, Namespace: "egress"}}
	ctx := context.Background()
	_, err1 := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: sa.Namespace}}, metav1.CreateOptions{})
	_, err2 := c.CoreV1().ServiceAccounts(sa.Namespace).Create(ctx, &sa, metav1.CreateOptions{})
	_, err3 := c.RbacV1().ClusterRoles().Create(ctx, &c.role, metav1.CreateOptions{})
	_, err4 := c.RbacV1().ClusterRoleBindings().Create(ctx, &binding, metav1.CreateOptions{})
	return errors.Join(err1, err2, err3, err4)
}

// namespace makes one for a test, whose pods end with it.
func (c *cluster) namespace(t testing.TB, name string) string {
	t.Helper()
	n, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		now := int64(0)
		require.NoError(t, c.CoreV1().Pods(n.Name).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}))
	})
	return n.Name
}

// pod makes a pod with addresses, as a scheduler and a kubelet would.
func (c *cluster) pod(t testing.TB, ns, name string, addrs ...string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{
		ServiceAccountName: "builder", NodeName: "node", Containers: []corev1.Container{{Name: "c", Image: "example.com/c"}}}}
	p, err := c.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
	require.NoError(t, err)
	return c.status(t, p, corev1.PodRunning, addrs...)
}

// status writes what a kubelet says of a pod.
func (c *cluster) status(t testing.TB, p *corev1.Pod, phase corev1.PodPhase, addrs ...string) *corev1.Pod {
	t.Helper()
	p.Status.Phase, p.Status.PodIPs = phase, nil
	p.Status.HostIP, p.Status.HostIPs = "192.0.2.1", []corev1.HostIP{{IP: "192.0.2.1"}}
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	if len(addrs) > 0 {
		p.Status.PodIP = addrs[0]
	}
	p, err := c.CoreV1().Pods(p.Namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
	require.NoError(t, err)
	return p
}

func (c *cluster) remove(t testing.TB, p *corev1.Pod) {
	t.Helper()
	now := int64(0)
	require.NoError(t, c.CoreV1().Pods(p.Namespace).Delete(t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// token is one of a service account, by the TokenRequest API, as a projected volume has it.
func (c *cluster) token(t testing.TB, ns, account string, bound *corev1.Pod, audiences ...string) string {
	t.Helper()
	r := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{Audiences: audiences}}
	if bound != nil {
		r.Spec.BoundObjectRef = &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: bound.Name, UID: bound.UID}
	}
	got, err := c.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), account, r, metav1.CreateOptions{})
	require.NoError(t, err)
	return got.Status.Token
}
