// Package files reads what settings name: regular files, and no more of them than is
// sane. A FIFO in their place would stop whoever reads it, and /dev/zero or a log that
// somebody mounted there would take all memory.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Most is the greatest size that is read: 64 MiB, a million rules.
const Most = 64 << 20

// Read is os.ReadFile for regular files of at most Most bytes. A symbolic link to one is
// as good. Anything else is an error that says what it is, and is not waited for.
func Read(path string) ([]byte, error) {
	// O_NONBLOCK, or a FIFO would not open before somebody writes to it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if isNull(info) {
		return []byte{}, nil // what containers mount over files that are to hold nothing
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is %s; name a regular file, or a symbolic link to one", path, kind(info.Mode()))
	}
	if ofKernel(f) {
		return nil, fmt.Errorf("read %s: it is a file of the kernel's own, which may have no end; name one that holds text", path)
	}
	if info.Size() > Most {
		return nil, tooLarge(path)
	}
	return readAll(f, path, info.Size())
}

// kernels are the file systems whose regular files may block, or never end (statfs(2)).
var kernels = map[int64]bool{unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.TRACEFS_MAGIC: true, unix.DEBUGFS_MAGIC: true}

func ofKernel(f *os.File) (yes bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		var s unix.Statfs_t
		yes = unix.Fstatfs(int(fd), &s) == nil && kernels[int64(s.Type)]
	})
	return yes
}

// ReadStream reads all of r, which is called name in errors: at most Most bytes. It is
// for commands that a person runs and can end: they may read from a pipe.
func ReadStream(r io.Reader, name string) ([]byte, error) { return readAll(r, name, 0) }

func readAll(r io.Reader, name string, size int64) ([]byte, error) {
	b := make([]byte, 0, min(size, Most)+512)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		if b = b[:len(b)+n]; len(b) > Most {
			return nil, tooLarge(name)
		}
		switch {
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

func isNull(info fs.FileInfo) bool {
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && sys.Rdev == unix.Mkdev(1, 3)
}

func tooLarge(name string) error {
	return fmt.Errorf("read %s: it holds more than %d MiB, which is the most that is read; is it the right file?", name, Most>>20)
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a pipe (FIFO)"
	case m&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}
