//go:build !race

package auth

// raceEnabled: the race detector allocates on its own account.
const raceEnabled = false
