package hold

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// aloneName is an abstract Unix socket, of which a network namespace has one of a name: it goes with
// the process, however that ends.
const aloneName = "@sluice-netsetup-hold"

// errSecond is the error of a second process in a network namespace. At its end it would take
// away the fence of the first, and both would bring the same addresses.
var errSecond = errors.New("another sluice-netsetup hold runs in this network namespace: one holds all addresses of a pod, its groups by EGRESS_POOL")

// alone sees to it that no other process holds addresses in this network namespace, until what
// it returns is closed; nil when that cannot be told.
func alone() (net.Listener, error) {
	l, err := net.Listen("unix", aloneName)
	if err == nil || !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	uid, err := whoListens()
	switch {
	case errors.Is(err, unix.ECONNREFUSED): // it has just gone
		return net.Listen("unix", aloneName)
	case err != nil:
		return nil, fmt.Errorf("%w (who has %s does not answer: %w)", errSecond, aloneName, err)
	case uid != os.Getuid(): // who has not our rights holds nothing, and is not to keep us from it
		return nil, nil
	}
	return nil, errSecond
}

// whoListens is the user of the process that has the socket.
func whoListens() (int, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: aloneName, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { who, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return int(who.Uid), nil
}
