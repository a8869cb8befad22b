package deploy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// only is the pod of a set that has one.
func only(t *testing.T, dir string) pod {
	t.Helper()
	all := podsOf(set{dir, build(t, dir)})
	require.Len(t, all, 1, dir)
	return all[0]
}

// asTheOverlaysSay gives the outside the addresses that the overlays name: their
// gateway on the pod's network, their destinations on server A. Nothing in the
// manifests is replaced.
func asTheOverlaysSay(t *testing.T) *nettest.Topology {
	t.Helper()
	net := nettest.NewTopology(t)
	asTheNodeLeavesIt(t, net)
	net.Gateway.Address("lan0", "192.0.2.1/24")
	net.ServerA.Address("eth0", "203.0.113.25/24", "203.0.113.26/24", "203.0.113.27/24", "203.0.113.53/24")
	return net
}

// names starts a server on server A that tells each client the address that it came
// to and the one that it came from.
func names(t *testing.T, p *nettest.Topology, network, addr string) {
	t.Helper()
	if network == "udp" {
		pc := p.ServerA.ListenPacket(addr)
		t.Cleanup(func() { _ = pc.Close() })
		go func() {
			b := make([]byte, 1500)
			for {
				_, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = pc.WriteTo(fmt.Appendf(nil, "%s saw %s\n", addr, from.(*net.UDPAddr).IP), from)
			}
		}()
		return
	}
	l := p.ServerA.Listen(addr)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "%s saw %s\n", addr, c.RemoteAddr().(*net.TCPAddr).IP)
			_ = c.Close()
		}
	}()
}

// reach is what a client in the cluster hears at a port of the pod: a server's
// answer, or an error.
func reach(p *nettest.Topology, network string, port int) string {
	c, err := p.Client.DialContext(context.Background(), network, net.JoinHostPort(nettest.PodV4, strconv.Itoa(port)))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // a datagram may be lost
	if network == "udp" {
		_, _ = io.WriteString(c, "who?")
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// servicePorts are the ports of the pod that its Service leads to, by the name in
// the Service.
func servicePorts(t *testing.T, p pod) map[string]int {
	t.Helper()
	s := p.all.find("Service", p.owner.name(), p.namespace)
	require.NotNil(t, s)
	ports := map[string]int{}
	for _, port := range s.list("spec", "ports") {
		ports[port.text("name")], _ = port["port"].(int)
		for _, own := range p.spec.list("containers")[0].list("ports") {
			if target := port.text("targetPort"); target != "" && own.text("name") == target {
				ports[port.text("name")], _ = own["containerPort"].(int)
			}
		}
	}
	return ports
}

// probe is what the readiness probe of a container hears.
func probe(t *testing.T, net *nettest.Topology, c object) string {
	t.Helper()
	for _, port := range c.list("ports") {
		if port.text("name") == c.text("readinessProbe", "httpGet", "port") {
			url := fmt.Sprintf("http://%s:%v%s", nettest.PodV4, port["containerPort"], c.text("readinessProbe", "httpGet", "path"))
			return curl(t, net, "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", url)
		}
	}
	t.Fatal("the readiness probe names no port")
	return ""
}

// TestRedirectPod runs the pod of the overlay redirect as it stands, and with
// the mode init, whose container ends when the rules are loaded.
func TestRedirectPod(t *testing.T) {
	for _, mode := range []string{"legacy", "init"} {
		t.Run(mode, func(t *testing.T) { redirects(t, mode) })
	}
}

func redirects(t *testing.T, mode string) {
	net := asTheOverlaysSay(t)
	p := only(t, "kustomize/overlays/redirect")
	main := p.spec.list("containers")[0]
	environ := p.environ(t, main)
	i := slices.Index(environ, "EGRESS_ROUTER_MODE=legacy")
	require.GreaterOrEqual(t, i, 0)
	environ[i] = "EGRESS_ROUTER_MODE=" + mode
	for _, addr := range []string{"203.0.113.25:80", "203.0.113.26:80", "203.0.113.27:7777"} {
		names(t, net, "tcp", addr)
	}
	names(t, net, "udp", "203.0.113.53:53")
	k := newKubelet(t, net.Egress, "")
	k.sandbox(p)

	// On a node where pods do not forward, the container says what to do.
	k.sysctl("net.ipv4.ip_forward", "0")
	c := k.start(p, main, environ, nil)
	require.Equal(t, 1, c.exit())
	require.Contains(t, c.log(t), "net.ipv4.ip_forward: it is 0, redirect mode needs 1")
	k.sysctl("net.ipv4.ip_forward", "1") // the sysctl in the manifest's comment

	for range 2 { // the second time is a restart of the container
		c = k.start(p, main, environ, nil)
		if mode == "init" {
			require.Zero(t, c.exit(), c.log(t))
		}
		ports := servicePorts(t, p)
		nettest.Eventually(t, "the pod redirects", func() bool {
			return reach(net, "tcp", ports["tcp-80"]) == "203.0.113.25:80 saw 192.0.2.12"
		})
		assert.Equal(t, "203.0.113.26:80 saw 192.0.2.12", reach(net, "tcp", ports["tcp-8080"]))
		assert.Equal(t, "203.0.113.53:53 saw 192.0.2.12", reach(net, "udp", ports["udp-53"]))
		assert.Equal(t, "203.0.113.27:7777 saw 192.0.2.12", reach(net, "tcp", 7777), "the fallback")
		if mode == "init" {
			continue
		}
		// CAP_NET_ADMIN and CAP_NET_RAW, and nothing else of what root could do.
		requireStatus(t, c, "Uid:\t0\t0\t0\t0", "CapPrm:\t0{12}3000", "CapEff:\t0{12}3000", "CapBnd:\t0{12}3000", "NoNewPrivs:\t1")
		requireReadOnly(t, c, "/", "/proc/sys")
		require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
		require.Zero(t, c.exit(), c.log(t))
		forgetRules(t, net) // so that it shows when they are loaded again
	}
}

// forgetRules takes all rules out of the egress pod.
func forgetRules(t *testing.T, p *nettest.Topology) {
	t.Helper()
	require.NoError(t, p.Egress.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.FlushRuleset()
		return c.Flush()
	}))
	require.NotContains(t, reach(p, "tcp", 80), " saw ")
}

// TestTCPPod runs the pod of the overlay tcp as it stands.
func TestTCPPod(t *testing.T) {
	net := asTheOverlaysSay(t)
	p := only(t, "kustomize/overlays/tcp")
	init, main := p.spec.list("initContainers")[0], p.spec.list("containers")[0]
	dns := net.DNS(t)
	dns.Set("partner.example.com", nettest.Addrs("203.0.113.25"))
	dns.Set("db.example.com", nettest.Addrs("203.0.113.27"))
	for _, addr := range []string{"203.0.113.25:443", "203.0.113.27:5432", "203.0.113.26:80"} {
		names(t, net, "tcp", addr)
	}
	k := newKubelet(t, net.Egress, "nameserver "+nettest.NodeV4+"\n")

	// The second time is a restart of the pod's sandbox or of the container.
	for range 2 {
		c := k.start(p, init, p.environ(t, init), nil)
		require.Zero(t, c.exit(), c.log(t))
	}
	// Without the pod's sysctl a program without privilege has no port 443.
	c := k.start(p, main, p.environ(t, main), nil)
	require.NotZero(t, c.exit())
	require.Contains(t, c.log(t), "permission denied")
	k.sandbox(p)

	c = k.start(p, main, p.environ(t, main), nil)
	nettest.Eventually(t, "it is ready", func() bool { return probe(t, net, main) == "200" })
	requirePowerless(t, c, "/", "/proc/sys")
	ports := servicePorts(t, p)
	for name, want := range map[string]string{
		"tcp-443": "203.0.113.25:443", "tcp-5432": "203.0.113.27:5432", "tcp-8080": "203.0.113.26:80",
	} {
		nettest.Eventually(t, name+" leads to its destination", func() bool { return !strings.Contains(reach(net, "tcp", ports[name]), "reset") })
		assert.Equal(t, want+" saw 192.0.2.11", reach(net, "tcp", ports[name]), name)
	}
	require.Len(t, ports, 3)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, c.exit(), c.log(t))
}
