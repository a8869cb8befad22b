package linelog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// disk is a file on a disk with so much room left.
type disk struct {
	mu   sync.Mutex
	room int
	bytes.Buffer
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *disk) free(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = room
}

func (d *disk) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.String()
}

// heard is what a log has told.
type heard struct {
	mu       sync.Mutex
	lost     int
	writes   int // that lost lines
	failed   []string
	restored []int
}

func (h *heard) options() Options {
	return Options{
		Lost:     func(n int) { h.mu.Lock(); h.lost += n; h.writes++; h.mu.Unlock() },
		Failed:   func(err error) { h.mu.Lock(); h.failed = append(h.failed, err.Error()); h.mu.Unlock() },
		Restored: func(n int) { h.mu.Lock(); h.restored = append(h.restored, n); h.mu.Unlock() },
	}
}

func (h *heard) lines() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

func (h *heard) faults() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.failed...)
}

// On a full disk lines are lost, counted and told of once; the torn one gets an end
// before the next begins.
func TestFullDisk(t *testing.T) {
	d, h := &disk{room: 14}, &heard{}
	l := New(d, h.options())
	fmt.Fprint(l, "line one\nline two\nline three\n")
	nettest.Eventually(t, "two lines are lost", func() bool { return h.lines() == 2 })
	fmt.Fprint(l, "line four\n")
	nettest.Eventually(t, "another is lost", func() bool { return h.lines() == 3 })
	d.free(1000)
	fmt.Fprint(l, "line five\nline six\n")
	nettest.Eventually(t, "there is room again", func() bool { return strings.HasSuffix(d.text(), "six\n") })
	assert.Zero(t, l.Close(time.Minute))
	assert.Equal(t, "line one\nline \nline five\nline six\n", d.text())
	assert.Equal(t, 3, h.lines())
	assert.Equal(t, []string{"no space left on device: lines are lost"}, h.faults())
	assert.Equal(t, []int{3}, h.restored)
}

// The same on a real disk of 8 KiB that fills up while whole batches are written.
func TestFullFileSystem(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	runtime.LockOSThread() // never unlocked: the thread, with its mounts, ends with the test
	for _, f := range []func() error{
		func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) },
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("none", dir, "tmpfs", 0, "size=8k") },
	} {
		if err := f(); err != nil {
			nettest.Unavailable(t, "a file system of the test's own: "+err.Error())
		}
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	l, err := Open(filepath.Join(dir, "log"), h.options())
	require.NoError(t, err)
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 4096), 0o600))
	written := 0
	for ; h.lines() == 0; written++ {
		fmt.Fprintf(l, "{\"n\":%0*d}\n", 200+written%50, written)
		if written%10 == 0 {
			runtime.Gosched()
		}
	}
	require.NoError(t, os.Remove(ballast))
	fmt.Fprint(l, "{\"n\":\"last\"}\n")
	written++
	assert.Zero(t, l.Close(time.Minute))
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	whole, torn := 0, 0
	for line := range strings.Lines(string(b)) {
		switch {
		case strings.HasPrefix(line, "{\"n\":") && strings.HasSuffix(line, "}\n") && strings.Count(line, "{") == 1:
			whole++
		default:
			torn++
			assert.Equal(t, 0, strings.Count(strings.TrimPrefix(line, "{"), "{"), "a torn line runs into the next: %q", line)
		}
	}
	assert.Equal(t, written, whole+h.lines())
	// A batch that waits while another fills the disk may fill what was made free.
	assert.LessOrEqual(t, torn, h.writes)
}

func TestDeviceFull(t *testing.T) {
	h := &heard{}
	l, err := Open("/dev/full", h.options())
	require.NoError(t, err)
	for i := range 100 {
		fmt.Fprintln(l, i)
	}
	nettest.Eventually(t, "all are lost", func() bool { return h.lines() == 100 })
	l.Close(time.Minute)
	assert.Equal(t, []string{"write /dev/full: no space left on device: lines are lost"}, h.faults())
}

// A pipe that nobody reads holds nobody up: not who writes, not who reopens, not who
// closes. What it did not take is counted.
func TestStalledPipe(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	_ = w.Fd() // as the standard output of a process: writes to it block
	h := &heard{}
	o := h.options()
	o.Room = 1 << 20
	l := New(w, o)
	line := strings.Repeat("x", 999) + "\n"
	const lines = 4000
	for range lines {
		io.WriteString(l, line)
	}
	require.Positive(t, h.lines())
	assert.Equal(t, []string{"it is not taken as fast as lines come, or not at all: lines are lost"}, h.faults())
	l.Reopen()
	begun := time.Now()
	left := l.Close(50 * time.Millisecond)
	assert.Less(t, time.Since(begun), 10*time.Second)
	assert.Positive(t, left)
	io.WriteString(l, line)
	assert.GreaterOrEqual(t, h.lines(), lines-1<<16/len(line), "all but what the pipe holds")
	assert.LessOrEqual(t, h.lines(), lines+1)
	go io.Copy(io.Discard, r)
	<-l.done
}

// A FIFO opens without a reader, whose lines wait for one. When the reader goes they wait
// for the next, who gets whole lines.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	h := &heard{}
	l, err := Open(path, h.options())
	require.NoError(t, err)
	fmt.Fprint(l, "one\ntwo\n")
	r, err := os.Open(path)
	require.NoError(t, err)
	in := bufio.NewReader(r)
	for _, want := range []string{"one\n", "two\n"} {
		got, err := in.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	l.Reopen()
	fmt.Fprint(l, "three\n")
	got, err := in.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "three\n", got)
	r.Close()
	for h.lines() == 0 { // the first that is written says that nobody is there
		fmt.Fprint(l, "lost\n")
		runtime.Gosched()
	}
	fmt.Fprint(l, "four\n")
	r, err = os.Open(path)
	require.NoError(t, err)
	in = bufio.NewReader(r)
	for got = ""; got != "four\n"; {
		got, err = in.ReadString('\n')
		require.NoError(t, err)
		assert.Contains(t, []string{"lost\n", "four\n"}, got)
	}
	r.Close()
	assert.Zero(t, l.Close(time.Minute))
}

// A FIFO that is open and not read is given up at the end, in time, and a FIFO that
// nobody opened as well.
func TestFIFOAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	h := &heard{}
	l, err := Open(path, h.options())
	require.NoError(t, err)
	fmt.Fprint(l, "nobody came\n")
	assert.Equal(t, 1, l.Close(time.Minute))

	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	if l, err = Open(path, h.options()); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		io.WriteString(l, strings.Repeat("x", 999)+"\n")
	}
	l.Close(10 * time.Millisecond)
	<-l.done // the writer has ended, though nobody reads
	assert.Greater(t, h.lines(), 1900)
}

// As logrotate does it: what is written after Reopen stands in the new file, and when
// there can be none the old one goes on.
func TestReopen(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	path := filepath.Join(dir, "log")
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	l, err := Open(path, h.options())
	require.NoError(t, err)
	fmt.Fprint(l, "one\n")
	nettest.Eventually(t, "it is written", func() bool { return read("log") == "one\n" })
	require.NoError(t, os.Rename(path, path+".1"))
	l.Reopen()
	nettest.Eventually(t, "there is a new file", func() bool { _, err := os.Stat(path); return err == nil })
	fmt.Fprint(l, "two\n")
	nettest.Eventually(t, "it is written", func() bool { return read("log") == "two\n" })
	require.NoError(t, os.Rename(path, path+".2"))
	require.NoError(t, os.Mkdir(path, 0o700))
	l.Reopen()
	nettest.Eventually(t, "the fault is told", func() bool { return len(h.faults()) == 1 })
	fmt.Fprint(l, "three\n")
	assert.Zero(t, l.Close(time.Minute))
	assert.Equal(t, "one\n", read("log.1"))
	assert.Equal(t, "two\nthree\n", read("log.2"))
	assert.Equal(t, []string{"open " + path + ": is a directory"}, h.faults())
	_, err = Open(path, h.options())
	assert.EqualError(t, err, "open "+path+": is a directory")
}

// Many write while the log is closed: each line is there or counted.
func TestCloseAmidLines(t *testing.T) {
	var lost atomic.Int64
	var out bytes.Buffer
	l := New(&out, Options{Lost: func(n int) { lost.Add(int64(n)) }})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				io.WriteString(l, "line\n")
			}
		})
	}
	assert.Zero(t, l.Close(time.Minute))
	all.Wait()
	assert.EqualValues(t, 16000, int64(strings.Count(out.String(), "line\n"))+lost.Load())
}

func TestNilLog(t *testing.T) {
	var l *Log
	l.Reopen()
	n, err := io.WriteString(l, "line\n")
	assert.Equal(t, 5, n)
	assert.NoError(t, errors.Join(err))
	assert.Zero(t, l.Close(0))
}
