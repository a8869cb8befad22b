package stepped

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// talker writes what it thinks the time is to a file, again and again.
const talker = `package main

import ("fmt"; "os"; "time")

func main() {
	f, _ := os.Create(os.Args[1])
	for {
		fmt.Fprintln(f, time.Now().Unix())
		time.Sleep(10 * time.Millisecond)
	}
}
`

// start starts the talker, and returns what it has written.
func start(t *testing.T, clock bool) (*Process, *exec.Cmd, func() []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		nettest.Unavailable(t, "a filter without no_new_privs takes root")
	}
	dir := t.TempDir()
	source, program, file := filepath.Join(dir, "main.go"), filepath.Join(dir, "talker"), filepath.Join(dir, "said")
	require.NoError(t, os.WriteFile(source, []byte(talker), 0o600))
	out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program, file)
	cmd.Stderr = os.Stderr
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := Start(cmd, clock)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	return p, cmd, func() []string {
		text, _ := os.ReadFile(file)
		return strings.Fields(string(text))
	}
}

func TestAt(t *testing.T) {
	p, cmd, said := start(t, false)
	nettest.Eventually(t, "it talks", func() bool { return len(said()) > 2 })
	at, goOn := make(chan Call, 1), make(chan struct{})
	p.At(5, func(c Call) bool { return c.Name == "write" }, func(c Call) <-chan struct{} { at <- c; return goOn })
	c := <-at
	assert.Regexp(t, "^write /.*/said$", c.String())
	assert.Regexp(t, "^[0-9]{10}\n$", string(c.Data))
	n := len(said())
	time.Sleep(100 * time.Millisecond) // that nothing happens takes time
	assert.Len(t, said(), n, "the call waits")
	assert.Equal(t, 5, p.Count())
	close(goOn)
	nettest.Eventually(t, "it goes on", func() bool { return len(said()) > n+2 })
	killed := make(chan int, 1)
	p.At(3, nil, func(Call) <-chan struct{} {
		killed <- len(said())
		cmd.Process.Signal(syscall.SIGKILL)
		return nil
	})
	n = <-killed
	nettest.Eventually(t, "it has ended", func() bool { return cmd.Process.Signal(syscall.Signal(0)) != nil })
	assert.Len(t, said(), n, "the call was not done")
}

func TestShift(t *testing.T) {
	p, _, said := start(t, true)
	last := func() time.Time {
		all := said()
		if len(all) == 0 {
			return time.Time{}
		}
		var n int64
		for _, c := range all[len(all)-1] {
			n = n*10 + int64(c-'0')
		}
		return time.Unix(n, 0)
	}
	for _, shift := range []time.Duration{0, 240 * time.Hour, -240 * time.Hour, 0} {
		p.Shift(shift)
		nettest.Eventually(t, "it believes that", func() bool {
			off := time.Until(last()) - shift
			return off.Abs() < 5*time.Second
		})
	}
}
