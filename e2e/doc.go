// Package e2e holds the end-to-end tests: the real programs, real clients and servers,
// and networks made of network namespaces, in one folder for each front door (http, tcp,
// netsetup), for each peer that Sluice is compared with (squid, haproxy), for the API
// server (kube), for the random load (drill), for what a release is made of (release), and for
// what the pages show (docs). It has no code of its own; internal/program builds and runs the
// programs.
//
// The tests that need network namespaces run as root, or unprivileged under
// unshare -Urn; without, and without the clients that they drive, they say what they skip
// and why. With CI=true as root nothing is skipped.
package e2e
