//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
)

// binaries is the folder of the programs that the tests build.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "sluice-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	if err := build("sluice-race", "-race"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// loopbackUp sets the loopback interface up where it is down: in the namespace
// that "unshare -Urn" has just made.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil || lo.Attrs().Flags&net.FlagUp != 0 {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("the loopback interface is down: %w", err)
	}
	return nil
}

// build makes the program under a name in binaries.
func build(name string, flags ...string) error {
	args := append([]string{"build", "-o", filepath.Join(binaries, name)}, flags...)
	cmd := exec.Command("go", append(args, "../cmd/sluice")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// racy is the program with the race detector in it, as every test but those that
// look at its memory runs it.
func racy() string { return filepath.Join(binaries, "sluice-race") }

// plain is the program as it ships.
var plain = sync.OnceValues(func() (string, error) {
	return filepath.Join(binaries, "sluice"), build("sluice")
})
