package deploy

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// known is a pod, as who enforces policies knows it.
type known struct {
	addrs          []string
	namespace, pod object // labels
}

// enforced is what a policy of egress says, as nftables of the node's end of the pod's cable: each
// peer is the addresses of the pods that its selectors fit, each port a port of those, and what
// no rule allows is dropped. ARP and neighbour discovery are beneath it. What answers connections from
// outside would pass in a cluster, where connections are known, and is dropped here.
func enforced(t *testing.T, policy object, device string, pods []known) string {
	t.Helper()
	require.Equal(t, []string{"Egress"}, texts(policy, "spec", "policyTypes"))
	lines := []string{"ether type arp accept", "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept"}
	for _, rule := range policy.list("spec", "egress") {
		for _, peer := range rule.list("to") {
			for _, p := range pods {
				if !fits(peer.object("namespaceSelector"), p.namespace) || !fits(peer.object("podSelector"), p.pod) {
					continue
				}
				for _, addr := range p.addrs {
					family := map[bool]string{true: "ip6", false: "ip"}[strings.Contains(addr, ":")]
					for _, port := range rule.list("ports") {
						lines = append(lines, fmt.Sprintf("%s daddr %s %s dport %v accept", family, addr, strings.ToLower(port.text("protocol")), port["port"]))
					}
				}
			}
		}
	}
	return fmt.Sprintf("table netdev sluice {\n chain out {\n  type filter hook ingress device %q priority 0; policy drop;\n  %s\n }\n}\n", device, strings.Join(lines, "\n  "))
}

// attempt is a way out that a client tries which heeds no variable.
type attempt struct{ network, addr string }

// tried are the attempts that came to something: a connection, or an answer to a datagram.
func tried(from *nettest.Netns, all []attempt) (reached []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, a := range all {
		wg.Go(func() {
			if from.Do(func() error {
				d := net.Dialer{Timeout: 2 * time.Second, FallbackDelay: -1}
				c, err := d.Dial(a.network, a.addr)
				if err != nil {
					return err
				}
				defer c.Close()
				if a.network == "udp" {
					_ = c.SetDeadline(time.Now().Add(2 * time.Second))
					_, _ = io.WriteString(c, "who?")
					_, err = c.Read(make([]byte, 100))
				}
				return err
			}) == nil {
				mu.Lock()
				defer mu.Unlock()
				reached = append(reached, a.network+" "+a.addr)
			}
		})
	}
	wg.Wait()
	slices.Sort(reached)
	return reached
}

// TestClientHasNoOtherWay: with the policy of the component "client" in force, a client that
// ignores the variables reaches nothing, and one that heeds them what the rules allow. Without the
// policy it reaches all of it.
func TestClientHasNoOtherWay(t *testing.T) {
	nettest.Need(t, "nft")
	world := nettest.NewTopology(t)
	outside(t, world)
	dns := world.DNS(t)
	dns.Set("www.example.com", nettest.Addrs(nettest.ServerAV4))
	names(t, world, "udp", nettest.ServerAV4+":53")
	names(t, world, "udp", nettest.ServerAV4+":443")
	other := world.Pod(t, "other", "10.128.0.7/24", "fd00:128::7/64")
	for ns, addrs := range map[*nettest.Netns][]string{other: {"10.128.0.7:8080", "[fd00:128::7]:8080"}, world.Node: {nettest.NodeV4 + ":10250"}} {
		for _, addr := range addrs {
			l := ns.Listen(addr)
			t.Cleanup(func() { _ = l.Close() })
		}
	}
	p := only(t, "kustomize/overlays/standalone")
	k := newKubelet(t, world.Egress, "nameserver "+nettest.NodeV4+"\n")
	main := p.spec.list("containers")[0]
	rules := newConfigMap(t, map[string]string{"rules.txt": "*.example.com\n"})
	k.start(p, main, p.environ(t, main), map[string]string{"/etc/sluice": rules.dir})
	nettest.Eventually(t, "the gateway is ready", func() bool { return probe(t, world, main) == "200" })

	attempts := []attempt{
		{"tcp", nettest.ServerAV4 + ":80"}, {"tcp", nettest.Bracketed(nettest.ServerAV6) + ":80"}, {"udp", nettest.ServerAV4 + ":53"}, {"udp", nettest.ServerAV4 + ":443"},
		{"tcp", "10.128.0.7:8080"}, {"tcp", "[fd00:128::7]:8080"}, {"tcp", nettest.PodV4 + ":9090"}, {"tcp", nettest.NodeV4 + ":10250"},
	}
	require.Len(t, tried(world.Client, attempts), len(attempts), "without a policy all are reached")

	policy := set{objects: build(t, "examples/clients")}.find("NetworkPolicy", "sluice-client", "jobs")
	script := enforced(t, policy, "p-client", []known{
		{[]string{nettest.PodV4, nettest.PodV6}, object{"kubernetes.io/metadata.name": "egress"}, p.labels},
		{[]string{nettest.NodeV4}, object{"kubernetes.io/metadata.name": "kube-system"}, object{"k8s-app": "kube-dns"}},
		{[]string{"10.128.0.7", "fd00:128::7"}, object{"kubernetes.io/metadata.name": "shop"}, object{"app.kubernetes.io/name": "shop"}},
	})
	require.Equal(t, 4, strings.Count(script, "daddr"), script)
	require.NoError(t, world.Node.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", script, out)
		return nil
	}))
	assert.Empty(t, tried(world.Client, attempts), "with the policy nothing is")
	assert.Equal(t, "you come from "+nettest.SourceV4+"\n", curl(t, world, "http://www.example.com/"), "what heeds the variables gets through")
	assert.Equal(t, "you come from "+nettest.SourceV4+"\n", curl(t, world, "--proxytunnel", "http://www.example.com/"))
	assert.Contains(t, curl(t, world, "http://"+nettest.ServerBV4+"/"), "no rule allows it")
	assert.Len(t, tried(world.Client, []attempt{{"tcp", nettest.Bracketed(nettest.PodV6) + ":8080"}, {"tcp", nettest.NodeV4 + ":53"}}), 2)
}
