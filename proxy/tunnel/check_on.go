//go:build race

package tunnel

// checkTaken has each pipe that lay ready looked into again when it is taken. Tests run
// with the race detector, and so with this: a pipe that comes to hold bytes by whatever way
// ends them.
const checkTaken = true
