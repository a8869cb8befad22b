package main

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The limit follows that of the control group which the process is in, if it has
// one; the test reads it by itself.
func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	var log bytes.Buffer
	limitMemory(slog.New(slog.NewTextHandler(&log, nil)))
	assert.Empty(t, log.String())
	got := debug.SetMemoryLimit(-1)
	want := int64(math.MaxInt64)
	if limit, ok := groupLimit(t); ok {
		want = int64(float64(limit) * memoryShare)
	}
	assert.InEpsilon(t, want, got, 0.001)
}

// groupLimit is the least memory limit among the control groups above this process.
func groupLimit(t *testing.T) (least int64, ok bool) {
	self, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	for line := range strings.Lines(string(self)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		root, file := "/sys/fs/cgroup", "memory.max"
		if part[1] == "memory" {
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if part[1] != "" {
			continue
		}
		for dir := part[2]; ; dir = filepath.Dir(dir) {
			b, err := os.ReadFile(filepath.Join(root, dir, file))
			if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n < 1<<60 && (!ok || n < least) {
				least, ok = n, true
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least, ok
}

// Whoever set GOMEMLIMIT knows better.
func TestLimitMemoryGivesWay(t *testing.T) {
	before := debug.SetMemoryLimit(123 << 20)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "123MiB")
	limitMemory(slog.New(slog.DiscardHandler))
	assert.EqualValues(t, 123<<20, debug.SetMemoryLimit(-1))
}
