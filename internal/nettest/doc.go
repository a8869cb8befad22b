// Package nettest holds the far ends that the proxy's tests talk to: a
// scripted DNS server, and whatever else a test needs to stand for the outside
// world. Everything listens on loopback, or on sockets that the test hands over
// (in a network namespace, say), and is closed by the test's own Cleanup.
//
// Nothing here lasts for a time that somebody has guessed. What a test wants to be late
// waits for a channel that the test closes; what it waits for itself, it names to
// [Eventually].
package nettest
