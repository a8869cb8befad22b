// Package stepped runs a program so that a test stands between it and the kernel: each system
// call by which it has an effect on others (what it writes, sends and connects to) waits until
// the test lets it go on, and the wall clock may say what the test wants. The program is the one
// that ships, and knows nothing of it.
//
// The test binary starts itself; that installs a seccomp filter whose listener the test has, and
// becomes the program. It takes root.
package stepped
