//go:build linux

package program

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Output is what a command of a test's client gave.
type Output struct {
	Out, Err string
	Status   int
	Took     time.Duration
}

// Command runs a client with an environment of its own: PATH, an empty HOME, and
// env. It ends with the test, or after two minutes. A client that is not
// installed skips the test.
func Command(t testing.TB, ns *nettest.Netns, env []string, name string, args ...string) Output {
	t.Helper()
	nettest.Need(t, name)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"}, env...)
	cmd.WaitDelay = time.Second
	begun := time.Now()
	if ns != nil {
		require.NoError(t, ns.Start(cmd))
	} else {
		require.NoError(t, cmd.Start())
	}
	_ = cmd.Wait() // the status tells
	return Output{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(begun)}
}

// Background runs a command until stop is called, or the test ends. A test that fails
// tells what it said.
func Background(t testing.TB, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	stop = func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group: it, and what it started
		<-done
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd, out.String())
		}
	})
	return stop
}
