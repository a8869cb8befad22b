//go:build race

package acl

// raceEnabled: under the race detector sync.Pool forgets on purpose, so counts
// of allocations mean nothing.
const raceEnabled = true
