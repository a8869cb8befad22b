//go:build !race

package tunnel

// checkTaken says that pipes are looked into when they are taken too: see check_on.go.
const checkTaken = false
