// Package fence keeps addresses of this network namespace from speaking while they are not
// held. What carries a fenced address as its source, as the sender of an ARP packet, or as
// the target of a neighbour advertisement, is dropped by the kernel unless the address is in
// a set of those that are held, and elements of that set end by themselves.
//
// A process can be frozen between any two of its steps and go on later as if nothing had
// been, so the fence takes no orders that are late: an address is held by an attempt
// ([Fence.Prepare]) that a transaction ends ([Fence.Commit]), and one whose attempt has
// expired meanwhile is refused by the kernel as a whole.
//
// A group of addresses that are held together has tables of its own, called sluice-hold- and
// the group's name, in the families arp, inet and netdev. They stay when the process ends.
//
// The package needs CAP_NET_ADMIN. Everything happens in the network namespace of the calling
// thread.
package fence
