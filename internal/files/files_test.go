package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What is no regular file of a sane size is refused at once, with what it is.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(in("empty"), nil, 0o600))
	require.NoError(t, os.WriteFile(in("text"), []byte("text"), 0o600))
	require.NoError(t, os.Symlink("text", in("link")))
	require.NoError(t, unix.Mkfifo(in("fifo"), 0o600))
	require.NoError(t, os.Symlink("fifo", in("fifolink")))
	for name, size := range map[string]int64{"most": Most, "more": Most + 1, "huge": 2 << 30} {
		f, err := os.Create(in(name))
		require.NoError(t, err)
		require.NoError(t, f.Truncate(size))
		require.NoError(t, f.Close())
	}
	const only = "; name a regular file, or a symbolic link to one"
	for path, want := range map[string]string{
		in("fifo"):     "read " + in("fifo") + ": it is a pipe (FIFO)" + only,
		in("fifolink"): "read " + in("fifolink") + ": it is a pipe (FIFO)" + only,
		dir:            "read " + dir + ": is a directory",
		"/dev/zero":    "read /dev/zero: it is a device" + only,
		in("more"):     "read " + in("more") + ": it holds more than 64 MiB, which is the most that is read; is it the right file?",
		in("huge"):     "read " + in("huge") + ": it holds more than 64 MiB, which is the most that is read; is it the right file?",
		in("nothing"):  "open " + in("nothing") + ": no such file or directory",
	} {
		b, err := Read(path)
		assert.EqualError(t, err, want)
		assert.Nil(t, b)
	}
	for name, size := range map[string]int{"empty": 0, "text": 4, "link": 4, "most": Most, "/dev/null": 0} {
		path := name
		if name[0] != '/' {
			path = in(name)
		}
		b, err := Read(path)
		assert.NoError(t, err)
		assert.NotNil(t, b)
		assert.Len(t, b, size)
	}
}

func TestReadStream(t *testing.T) {
	b, err := ReadStream(strings.NewReader("text"), "-")
	assert.NoError(t, err)
	assert.Equal(t, "text", string(b))
	zero, err := os.Open("/dev/zero")
	require.NoError(t, err)
	defer zero.Close()
	_, err = ReadStream(zero, "/dev/zero")
	assert.EqualError(t, err, "read /dev/zero: it holds more than 64 MiB, which is the most that is read; is it the right file?")
	_, err = ReadStream(os.NewFile(^uintptr(0), "closed"), "closed")
	assert.Error(t, err)
}

// A file that the kernel makes up may have no end, whatever its kind says.
func TestFilesOfTheKernel(t *testing.T) {
	for _, path := range []string{"/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		_, err := Read(path)
		assert.EqualError(t, err, "read "+path+": it is a file of the kernel's own, which may have no end; name one that holds text")
	}
}
