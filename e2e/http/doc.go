// Package http tests the HTTP front door: the real program, real clients, and networks
// made of network namespaces. It has no code of its own.
package http
