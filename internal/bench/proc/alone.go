//go:build linux

package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Alone waits until no other benchmark runs on this machine, but not for longer than
// limit: two at a time would measure each other. The lock ends with release, or with
// the process.
func Alone(limit time.Duration) (release func(), err error) {
	path := filepath.Join(os.TempDir(), "sluice-bench.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if time.Since(begin) > limit {
			f.Close()
			return nil, fmt.Errorf("another benchmark runs (%s): %w", path, err)
		}
		if time.Since(begin) < 100*time.Millisecond {
			fmt.Fprintln(os.Stderr, "bench: waiting for another benchmark to end")
		}
	}
}
