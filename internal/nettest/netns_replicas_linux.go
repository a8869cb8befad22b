package nettest

import (
	"fmt"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses of [Replicas].
const (
	HeldV4, HeldV6       = "198.51.100.60", "2001:db8:1::60" // a group of addresses
	Held2V4, Held2V6     = "198.51.100.61", "2001:db8:1::61" // another
	StrangerV4           = "198.51.100.99"                   // of a machine on the same wire
	GatewayV4            = gatewayV4
	GatewayV6            = gatewayV6
	clusterV4, clusterV6 = "10.128.0.1", "fd00:128::1"
)

// Replicas are egress pods on nodes of their own, on one wire outside:
//
//	 Client          Pods[0]             Pods[1]
//	 eth0         eth0  macvlan0      eth0  macvlan0
//	   |            |      .            |      .
//	---+---- br0 ---+----- . -----------+----- . --   Cluster
//	                     phys0               phys0    Nodes
//	                       |                   |
//	-------- lan0 ---------+-------------------+---   Gateway
//	         wan0
//	           |                            phys0     Stranger, on lan0
//	         eth0  Server
//
// The pods have no address outside: holding brings it.
type Replicas struct {
	Client, Cluster, Gateway, Server, Stranger *Netns
	Nodes, Pods                                []*Netns
}

// NewReplicas builds n replicas.
func NewReplicas(t testing.TB, n int) *Replicas {
	t.Helper()
	r := &Replicas{
		Client: NewNetns(t, "client"), Cluster: NewNetns(t, "cluster"), Gateway: NewNetns(t, "gateway"),
		Server: NewNetns(t, "server"), Stranger: NewNetns(t, "stranger"),
	}
	r.Gateway.forward()
	r.Gateway.bridge("lan0", gatewayV4+"/24", gatewayV6+"/64")
	r.Gateway.bridge("wan0", "203.0.113.1/24", "2001:db8:2::1/64")
	r.Server.cable("eth0", r.Gateway, "wan0", ServerAV4+"/24", ServerAV6+"/64")
	r.Server.Route("default", "203.0.113.1")
	r.Server.Route("default", "2001:db8:2::1")
	r.Stranger.cable("phys0", r.Gateway, "lan0", StrangerV4+"/24")
	r.Cluster.bridge("br0", clusterV4+"/24", clusterV6+"/64")
	r.Client.cable("eth0", r.Cluster, "br0", ClientV4+"/24", ClientV6+"/64")
	for i := range n {
		node, pod := NewNetns(t, fmt.Sprint("node-", i)), NewNetns(t, fmt.Sprint("pod-", i))
		node.cable("phys0", r.Gateway, "lan0")
		node.macvlan("macvlan0", "phys0", pod)
		pod.cable("eth0", r.Cluster, "br0", PodOf(i)+"/24")
		r.Nodes, r.Pods = append(r.Nodes, node), append(r.Pods, pod)
	}
	return r
}

// PodOf is the address of a replica's pod in the cluster.
func PodOf(i int) string { return fmt.Sprint("10.128.0.", 10+i) }

// Unplug takes the cable of a node's out of the switch outside, behind its other end: the node's
// interface stays up, and nothing comes through. Plug puts it back.
func (r *Replicas) Unplug(i int) {
	r.Gateway.must(r.Gateway.nl.LinkSetNoMaster(r.Gateway.link("p-" + r.Nodes[i].Name)))
}

// Plug is the opposite of Unplug.
func (r *Replicas) Plug(i int) {
	r.Gateway.must(r.Gateway.nl.LinkSetMaster(r.Gateway.link("p-"+r.Nodes[i].Name), r.Gateway.link("lan0")))
}

// Down takes the interface of a node, or of a pod, out of order; up brings it back.
func (n *Netns) Down(name string) { n.must(n.nl.LinkSetDown(n.link(name))) }

// Up is the opposite of Down.
func (n *Netns) Up(name string) { n.must(n.nl.LinkSetUp(n.link(name))) }

// MAC is the hardware address of an interface.
func (n *Netns) MAC(name string) string { return n.link(name).Attrs().HardwareAddr.String() }

// Forget has a host know no MAC address of a neighbour.
func (n *Netns) Forget(name, addr string) {
	// There may be none.
	_ = n.nl.NeighDel(&netlink.Neigh{LinkIndex: n.link(name).Attrs().Index, IP: net.ParseIP(addr)})
}

// Stubborn has a host believe what it knows of its neighbours for an hour. It asks nobody again
// in that time: only what others announce changes it.
func (n *Netns) Stubborn(name string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		n.sysctl("net/"+family+"/neigh/"+name+"/base_reachable_time_ms", "3600000")
	}
}

// Remember has a host know the MAC address of a neighbour, as if that had just answered; for good:
// nothing on the wire changes it.
func (n *Netns) Remember(name, addr, mac string, forGood bool) {
	hw, err := net.ParseMAC(mac)
	n.must(err)
	state := unix.NUD_REACHABLE
	if forGood {
		state = unix.NUD_PERMANENT
	}
	n.must(n.nl.NeighSet(&netlink.Neigh{LinkIndex: n.link(name).Attrs().Index, IP: net.ParseIP(addr), HardwareAddr: hw, State: state}))
}

// Neighbour is the MAC address that a host knows of a neighbour, "" for none.
func (n *Netns) Neighbour(name, addr string) string {
	family := unix.AF_INET6
	if net.ParseIP(addr).To4() != nil {
		family = unix.AF_INET
	}
	all, err := n.nl.NeighList(n.link(name).Attrs().Index, family)
	n.must(err)
	for _, x := range all {
		if x.IP.Equal(net.ParseIP(addr)) && x.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 {
			return x.HardwareAddr.String()
		}
	}
	return ""
}
