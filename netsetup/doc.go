// Package netsetup sets up a pod's network for egress: the egress source addresses
// on their interface, the routes by their gateways, and, for redirect mode, the
// rules by which the kernel passes connections on.
//
// It is three things, one after the other. Texts are parsed ([ParseSources],
// [ParseGateways], [ParseDestinations] …) into a [Config], which [Config.Check]
// holds against itself. [NewPlan] is pure: from a Config and a [State], what a
// namespace looks like now, it makes the list of [Change]s that lead to what is
// wanted; an empty list when all is in place. A plan can be printed in the words of
// ip and nft. [Kernel.Apply] carries it out by netlink, and when a change fails,
// undoes the others by the same means: the plan from what is there now to what was
// there before.
//
// The package needs CAP_NET_ADMIN and CAP_NET_RAW, runs no program, listens on
// nothing, and reads no packet but answers to its own questions about an address.
//
// Everything happens in the network namespace of the calling thread. Who changes
// that must lock the thread (runtime.LockOSThread) around each call.
package netsetup
