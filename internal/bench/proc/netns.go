//go:build linux

package proc

import (
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const inside = "BENCH_NETNS"

// Isolate runs this program anew in a network namespace of its own, where the
// loopback network has no other users, no packet filter and all ports for itself.
// It returns false where that is not possible, or has happened already; otherwise
// the new program has ended with the code.
func Isolate() (code int, ran bool) {
	if os.Getenv(inside) != "" || os.Getuid() != 0 {
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if cmd.Start() != nil {
		return 0, false // not allowed here
	}
	if err := cmd.Wait(); err != nil {
		return 1, true
	}
	return 0, true
}

// Isolated prepares the namespace that this program is in, and reports whether it
// is one of its own.
func Isolated() (bool, error) {
	if os.Getenv(inside) == "" {
		return false, nil
	}
	if err := loopbackUp(); err != nil {
		return true, err
	}
	if err := unpaced(); err != nil {
		return true, err
	}
	return true, SetSysctl("net.ipv4.ip_local_port_range", "12000 65535")
}

// unpaced sees to it that TCP sends what it may, as it does by Linux's default. A host
// whose default is BBR has each connection send by a timer, and stop for 200 ms when it has
// not been quiet for ten seconds: on loopback that is most of what one would measure. A
// namespace may not be allowed what its host has as a module only; reno always is there.
func unpaced() (err error) {
	for _, name := range []string{"cubic", "reno"} {
		if err = SetSysctl("net.ipv4.tcp_congestion_control", name); err == nil {
			return nil
		}
	}
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// FreePort is a port of 127.0.0.1 where nothing listens.
func FreePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
