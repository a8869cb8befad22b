// Package tcp tests the TCP front door: the real program, real servers, and networks made
// of network namespaces. It has no code of its own.
package tcp
