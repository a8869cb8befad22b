package nettest

import "testing"

// Addresses of a [Topology]. The Far ones are private, and behind the gateway all
// the same: a connection to them that ought not to be made would come about.
const (
	ClientV4, ClientV6 = "10.128.0.2", "fd00:128::2"
	PodV4, PodV6       = "10.128.0.3", "fd00:128::3" // the egress pod's, in the cluster
	NodeV4, NodeV6     = "10.128.0.1", "fd00:128::1"
	SourceV4, SourceV6 = "198.51.100.50", "2001:db8:1::50" // EGRESS_SOURCE
	ServerAV4          = "203.0.113.10"
	ServerAV6          = "2001:db8:2::10"
	ServerBV4          = "203.0.113.20"
	ServerBV6          = "2001:db8:2::20"
	FarV4, FarV6       = "10.9.9.9", "fd00:9::9" // of ServerB too

	gatewayV4, gatewayV6 = "198.51.100.1", "2001:db8:1::1"
)

// Topology is a cluster node with two pods, and the outside:
//
//	 Client            Egress
//	 eth0          eth0  macvlan0 (EGRESS_SOURCE)
//	   |             |      .
//	---+---- br0 ----+---   .      Node
//	          |             .
//	          +---- phys0 ..+      (routes between the two)
//	                  |
//	----------------- lan0 -----   Gateway
//	                  wan0 -----
//	               |          |
//	             eth0       eth0
//	            ServerA    ServerB
//
// The way from the pods through the node works too, and so does the way back:
// what leaves by the wrong interface, or from the wrong address, arrives outside
// and is seen there.
type Topology struct {
	Client, Egress, Node, Gateway, ServerA, ServerB *Netns
}

// NewTopology builds a topology, in a quarter of a second. The egress pod is set
// up as the init container will do it: the source addresses on macvlan0, the
// default routes by it, the cluster by eth0.
func NewTopology(t testing.TB) *Topology {
	t.Helper()
	p := &Topology{
		Client: NewNetns(t, "client"), Egress: NewNetns(t, "egress"), Node: NewNetns(t, "node"),
		Gateway: NewNetns(t, "gateway"), ServerA: NewNetns(t, "server-a"), ServerB: NewNetns(t, "server-b"),
	}
	p.outside()
	p.cluster()
	p.Node.macvlan("macvlan0", "phys0", p.Egress)
	p.Egress.Address("macvlan0", SourceV4+"/24", SourceV6+"/64")
	p.Egress.Route("default", gatewayV4)
	p.Egress.Route("default", gatewayV6)
	return p
}

func (p *Topology) outside() {
	p.Gateway.forward()
	p.Gateway.bridge("lan0", gatewayV4+"/24", gatewayV6+"/64")
	p.Gateway.bridge("wan0", "203.0.113.1/24", "2001:db8:2::1/64")
	p.ServerA.cable("eth0", p.Gateway, "wan0", ServerAV4+"/24", ServerAV6+"/64")
	p.ServerB.cable("eth0", p.Gateway, "wan0", ServerBV4+"/24", ServerBV6+"/64", FarV4+"/32", FarV6+"/128")
	for _, server := range []*Netns{p.ServerA, p.ServerB} {
		server.Route("default", "203.0.113.1")
		server.Route("default", "2001:db8:2::1")
	}
	p.Gateway.Route(FarV4+"/32", ServerBV4)
	p.Gateway.Route(FarV6+"/128", ServerBV6)
}

func (p *Topology) cluster() {
	p.Node.forward()
	p.Node.cable("phys0", p.Gateway, "lan0", "198.51.100.10/24", "2001:db8:1::10/64")
	p.Node.Route("default", gatewayV4)
	p.Node.Route("default", gatewayV6)
	p.Node.bridge("br0", NodeV4+"/24", NodeV6+"/64")
	p.Client.cable("eth0", p.Node, "br0", ClientV4+"/24", ClientV6+"/64")
	p.Client.Route("default", NodeV4)
	p.Client.Route("default", NodeV6)
	p.Egress.cable("eth0", p.Node, "br0", PodV4+"/24", PodV6+"/64")
	p.Gateway.Route("10.128.0.0/24", "198.51.100.10")
	p.Gateway.Route("fd00:128::/64", "2001:db8:1::10")
}

// Pod adds a pod to the cluster, at these addresses with their lengths.
func (p *Topology) Pod(t testing.TB, name string, addrs ...string) *Netns {
	t.Helper()
	pod := NewNetns(t, name)
	pod.cable("eth0", p.Node, "br0", addrs...)
	pod.Route("default", NodeV4)
	pod.Route("default", NodeV6)
	return pod
}

// DNS starts a scripted DNS server on the node's address in the cluster, port 53.
func (p *Topology) DNS(t testing.TB) *DNS {
	t.Helper()
	return NewDNSOn(t, p.Node.ListenPacket(NodeV4+":53"), p.Node.Listen(NodeV4+":53"))
}
