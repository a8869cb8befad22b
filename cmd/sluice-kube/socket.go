package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// listen opens the socket, for the user and the group of the process. One that a program
// has left behind is replaced; one at which somebody answers is not.
func listen(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("sluice-kube: --socket: another program serves at %s", path)
	}
	switch s, err := os.Lstat(path); {
	case err == nil && s.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("sluice-kube: --socket: %s is there, and no socket", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("sluice-kube: --socket: replace what was left behind: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("sluice-kube: --socket: %w", err)
	}
	before := syscall.Umask(0o117)
	defer syscall.Umask(before)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("sluice-kube: --socket: %w", err)
	}
	return l, nil
}
