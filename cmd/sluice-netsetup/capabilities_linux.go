package main

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raiseCapabilities makes the capabilities that this process may have the ones that
// it has. The image's file grants them as permitted only: granted as effective, the
// kernel refuses to start the program where a container withholds one, and nobody
// is told which.
func raiseCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	raised := data
	for i := range raised {
		raised[i].Effective = raised[i].Permitted
	}
	if raised == data {
		return nil
	}
	// Capabilities belong to threads, and Go has several by now.
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&raised[0])), 0)
	if errors.Is(errno, syscall.ENOTSUP) { // linked with cgo, as tests are: the main thread is what counts
		errno = 0
		if err := unix.Capset(&header, &raised[0]); err != nil {
			return fmt.Errorf("raise the capabilities of this process: %w", err)
		}
	}
	if errno != 0 {
		return fmt.Errorf("raise the capabilities of this process: %w", errno)
	}
	return nil
}
