//go:build linux

package kube

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

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
	t.Cleanup(func() {
		assert.NoError(t, w.CoreV1().ServiceAccounts(account.Namespace).Delete(context.Background(), account.Name, metav1.DeleteOptions{}))
	})
	_, err = w.BatchV1().Jobs(job.Namespace).Create(t.Context(), &job, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)

	// What the controller and the kubelet do: a pod, with the token in its volume. That its
	// address is not in the directory makes the token alone count.
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
		"another's token":     {w.token(t, "egress", "sluice", nil, "sluice"), "HTTP/1.1 403 Egress denied: this client is no tenant's"},
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
