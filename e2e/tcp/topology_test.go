//go:build linux

package tcp

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// tcpPod is a topology whose egress pod is as the node leaves it: macvlan0 is down
// and without addresses, and everything leaves by the cluster's network, which
// leads outside too.
type tcpPod struct{ *nettest.Topology }

func newTCPPod(t testing.TB) tcpPod {
	t.Helper()
	p := tcpPod{nettest.NewTopology(t)}
	p.ip(t, p.Egress, "address flush dev macvlan0")
	p.ip(t, p.Egress, "link set macvlan0 down")
	p.Egress.Route("default", nettest.NodeV4)
	p.Egress.Route("default", nettest.NodeV6)
	return p
}

func (p tcpPod) ip(t testing.TB, ns *nettest.Netns, args string) {
	t.Helper()
	got := program.Command(t, ns, nil, "ip", strings.Fields(args)...)
	require.Zero(t, got.Status, "ip %s: %s", args, got.Err)
}

// setup runs sluice-netsetup in the pod, as its init container does.
func (p tcpPod) setup(t testing.TB, sources, gateways string) {
	t.Helper()
	got := program.Command(t, p.Egress, []string{"EGRESS_ROUTER_MODE=dns-proxy", "EGRESS_SOURCE=" + sources, "EGRESS_GATEWAY=" + gateways}, program.Netsetup(t))
	require.Zero(t, got.Status, got.Err)
}

// setting runs the program in the pod as its main container does: without a
// command, since the environment says that it is "sluice tcp".
func (p tcpPod) setting(sources, destinations string) program.Setup {
	return program.Setup{Netns: p.Egress, Bare: true, Env: []string{"SLUICE_RESOLVER=" + nettest.NodeV4,
		"EGRESS_SOURCE=" + sources, "EGRESS_DNS_PROXY_DESTINATION=" + destinations}}
}

// start runs the program and waits until it has destinations.
func (p tcpPod) start(t testing.TB, sources, destinations string) *program.Program {
	t.Helper()
	g := program.Start(t, p.setting(sources, destinations))
	nettest.Eventually(t, "it is ready", func() bool { status, _ := g.Ask("/readyz"); return status == 200 })
	return g
}

// witness listens on port 5432 of the addresses: it tells each client its name and
// the address that it sees, then sends back what comes.
func (p tcpPod) witness(t testing.TB, ns *nettest.Netns, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		l := ns.Listen(net.JoinHostPort(addr, "5432"))
		var open sync.WaitGroup
		open.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				open.Go(func() {
					_, _ = io.WriteString(c, ns.Name+" saw "+c.RemoteAddr().(*net.TCPAddr).IP.String()+"\n")
					_, _ = io.Copy(c, c)
					_ = c.Close()
				})
			}
		})
		t.Cleanup(func() { _ = l.Close() })
	}
}

// ask connects to a port of the pod from the client pod. saw is what the server
// says; the connection is open until the test ends.
func (p tcpPod) ask(t testing.TB, pod, port string) (c net.Conn, saw string, err error) {
	t.Helper()
	c, err = p.Client.DialContext(context.Background(), "tcp", net.JoinHostPort(pod, port))
	if err != nil {
		return nil, "", err // a reset may be as fast as that
	}
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	line, err := bufio.NewReader(c).ReadString('\n')
	return c, strings.TrimSpace(line), err
}

const (
	bothSources  = nettest.SourceV4 + "/24, " + nettest.SourceV6 + "/64"
	bothGateways = "198.51.100.1, 2001:db8:1::1"
)

// The server outside sees EGRESS_SOURCE, of its family, whichever address the client
// came to; and that is the work of sluice-netsetup: without it the program does not
// start.
func TestTCPServerSeesTheEgressSource(t *testing.T) {
	p := newTCPPod(t)
	dns := p.DNS(t)
	dns.Set("four.example.com", nettest.Addrs(nettest.ServerAV4))
	dns.Set("six.example.com", nettest.Addrs(nettest.ServerAV6))
	dns.Set("both.example.com", nettest.Addrs(nettest.ServerAV4, nettest.ServerAV6))
	p.witness(t, p.ServerA, nettest.ServerAV4, nettest.ServerAV6)
	destinations := strings.Join([]string{
		"5432 " + nettest.ServerAV4, "5433 " + nettest.ServerAV6 + " 5432",
		"5434 four.example.com 5432", "5435 six.example.com 5432", "5436 both.example.com 5432",
	}, "\n")

	g := program.Launch(t, p.setting(bothSources, destinations))
	assert.Equal(t, 2, g.Exit())
	assert.Contains(t, g.Stderr(), "EGRESS_SOURCE "+nettest.SourceV4+" is not an address of this host")

	p.setup(t, bothSources, bothGateways)
	p.start(t, bothSources, destinations)
	wire := p.ServerA.Capture(t)
	const saw4, saw6 = "server-a saw " + nettest.SourceV4, "server-a saw " + nettest.SourceV6
	for _, pod := range []string{nettest.PodV4, nettest.PodV6} {
		for _, c := range []struct {
			port string
			want []string
		}{
			{"5432", []string{saw4}}, {"5433", []string{saw6}}, {"5434", []string{saw4}}, {"5435", []string{saw6}},
			{"5436", []string{saw4, saw6}}, // in turn
		} {
			var saw []string
			for range c.want {
				conn, line, err := p.ask(t, pod, c.port)
				require.NoError(t, err)
				program.Echoes(t, conn, "and bytes")
				saw = append(saw, line)
			}
			assert.ElementsMatch(t, c.want, saw, "%s port %s", pod, c.port)
		}
	}
	for addr, source := range map[string]string{
		nettest.ServerAV4: nettest.SourceV4, nettest.ServerAV6: nettest.SourceV6,
	} {
		seen := p.Seen(t, wire, addr)
		require.NotEmpty(t, seen)
		for _, packet := range seen {
			if packet.Dst.Addr().String() == addr {
				assert.Equal(t, source, packet.Src.Addr().String(), "%s", packet)
			}
		}
	}
}

// With a source of one family, the other is out of reach, though the pod has an
// address and a way for it.
func TestTCPNoSourceOfTheFamily(t *testing.T) {
	p := newTCPPod(t)
	p.witness(t, p.ServerA, nettest.ServerAV4, nettest.ServerAV6)
	p.setup(t, nettest.SourceV4+"/24", "198.51.100.1")
	straight, err := p.Egress.DialContext(context.Background(), "tcp", net.JoinHostPort(nettest.ServerAV6, "5432"))
	require.NoError(t, err, "the pod itself reaches it")
	require.NoError(t, straight.Close())

	p.start(t, nettest.SourceV4, "5432 "+nettest.ServerAV4+"\n5433 "+nettest.ServerAV6+" 5432")
	wire := p.ServerA.Capture(t)
	_, _, err = p.ask(t, nettest.PodV6, "5433")
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, saw, err := p.ask(t, nettest.PodV6, "5432")
	require.NoError(t, err)
	assert.Equal(t, "server-a saw "+nettest.SourceV4, saw)
	for _, packet := range p.Seen(t, wire, nettest.ServerAV6) {
		assert.NotEqual(t, nettest.ServerAV6, packet.Dst.Addr().String(), "%s", packet)
	}
}
