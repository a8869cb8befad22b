// Package release holds the tests of what a release is made of: made twice and compared, its
// packages installed into a small Debian and used from there, its programs for arm64 run by qemu.
package release
