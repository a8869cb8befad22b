package deploy

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// TestSandboxPod: the policy of examples/sandbox leaves its pod the gateway's two ports, of all there is,
// and what the pod is given fits together.
func TestSandboxPod(t *testing.T) {
	nettest.Need(t, "nft")
	s := set{objects: build(t, "examples/sandbox")}
	world := nettest.NewTopology(t)
	for ns, addrs := range map[*nettest.Netns][]string{
		world.Egress:  {nettest.PodV4 + ":8080", nettest.PodV4 + ":1080", nettest.PodV4 + ":9090"},
		world.Node:    {nettest.NodeV4 + ":53", nettest.NodeV4 + ":10250"},
		world.ServerA: {nettest.ServerAV4 + ":443", nettest.Bracketed(nettest.ServerAV6) + ":443"},
	} {
		for _, addr := range addrs {
			l := ns.Listen(addr)
			t.Cleanup(func() { _ = l.Close() })
		}
	}
	gateway := []string{"tcp " + nettest.PodV4 + ":1080", "tcp " + nettest.PodV4 + ":8080"}
	attempts := []attempt{
		{"tcp", nettest.PodV4 + ":8080"}, {"tcp", nettest.PodV4 + ":1080"}, {"tcp", nettest.PodV4 + ":9090"}, {"tcp", nettest.NodeV4 + ":53"},
		{"tcp", nettest.NodeV4 + ":10250"}, {"tcp", nettest.ServerAV4 + ":443"}, {"tcp", nettest.Bracketed(nettest.ServerAV6) + ":443"},
	}
	require.Len(t, tried(world.Client, attempts), len(attempts), "without a policy all are reached")
	script := enforced(t, s.find("NetworkPolicy", "sluice-client", "sandbox"), "p-client", []known{
		{[]string{nettest.PodV4}, object{"kubernetes.io/metadata.name": "egress"}, only(t, "kustomize/overlays/standalone").labels},
		{[]string{nettest.NodeV4}, object{"kubernetes.io/metadata.name": "kube-system"}, object{"k8s-app": "kube-dns"}},
	})
	require.NoError(t, world.Node.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", script, out)
		return nil
	}))
	assert.Equal(t, gateway, tried(world.Client, attempts))

	pod := s.find("Pod", "agent", "sandbox").object("spec")
	assert.Equal(t, false, pod["automountServiceAccountToken"])
	assert.Equal(t, "None", pod["dnsPolicy"])
	names := texts(pod.list("hostAliases")[0], "hostnames")
	c := pod.list("containers")[0]
	where := c.list("volumeMounts")[slices.IndexFunc(c.list("volumeMounts"), func(m object) bool { return m.text("name") == "bundle" })].text("mountPath")
	for _, e := range c.list("env") {
		switch value := e.text("value"); {
		case e.text("name") == "GIT_SSH_COMMAND":
			assert.Contains(t, value, names[0]+":1080")
		case e.text("name") != "HOME":
			assert.Equal(t, where+"/bundle.crt", value, e.text("name"))
		}
	}
	assert.Equal(t, "http://"+names[0]+":8080", s.find("ConfigMap", "sluice-client", "sandbox").text("data", "https_proxy"))
}
