// Package hold is the privileged half of one address that survives its node: it holds groups
// of addresses, attempt by attempt, as it is asked to. An attempt that is late is refused by
// the fence in the kernel ([fence.Fence]); here nothing is decided, and nothing is known of
// whose turn it is.
//
// While a group is held its addresses are there, are announced, and are watched: who else
// speaks for one of them has it let go at once.
//
// The package needs CAP_NET_ADMIN and CAP_NET_RAW. Everything happens in the network
// namespace of the process.
package hold
