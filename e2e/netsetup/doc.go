// Package netsetup tests the real sluice-netsetup in networks made of network namespaces.
// It has no code of its own.
package netsetup
