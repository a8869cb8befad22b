// Package e2e holds the end-to-end tests: the real program, real clients, and
// networks made of network namespaces. It has no code of its own.
//
// The tests build the program themselves. Those that need network namespaces run
// as root, or unprivileged under unshare -Urn; without, and without the clients
// that they drive, they say what they skip and why. With CI=true as root nothing
// is skipped.
package e2e
