package reload

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A change counts when two looks agree about it, in what the file says and in its stamp.
func TestFollower(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "rules"), filepath.Join(dir, "more")
	moment := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(path, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		moment = moment.Add(time.Second)
		require.NoError(t, os.Chtimes(path, moment, moment))
	}
	f := new(follower)
	says := func(path, want string) {
		t.Helper()
		b, err := f.read(path)
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
	looks := func(want ...finding) {
		t.Helper()
		for _, w := range want {
			require.Equal(t, w, f.look())
		}
	}
	write(path, "*.ok.test\n")
	says(path, "*.ok.test\n")
	f.done(nil)
	looks(unchanged, unchanged)

	write(path, "*")
	looks(moving)
	write(path, "*.o")
	looks(moving)
	write(path, "*.ok") // and then with the same size
	looks(moving)
	write(path, "*.no")
	looks(moving)
	write(path, "*.no") // the same, but written once more
	looks(moving, settled)
	says(path, "*.no")
	looks(unchanged)

	write(path, "x")
	looks(moving)
	write(path, "*.no") // as before: no change
	looks(unchanged)
	require.False(t, f.pending())

	// What settled is what is read, whatever the file says by then.
	write(path, "a")
	looks(moving, settled)
	write(path, "b")
	says(path, "a")
	f.done([]string{path})
	looks(moving, settled)

	// Gone, and there again without a word: three different things.
	require.NoError(t, os.Remove(path))
	looks(moving, settled)
	_, err := f.read(path)
	require.ErrorIs(t, err, syscall.ENOENT)
	looks(unchanged)
	write(path, "")
	looks(moving, settled)
	says(path, "")

	// Asked for, it settles as it is.
	f.ask()
	require.True(t, f.pending())
	looks(moving, settled, unchanged)

	// A file that is new to it is looked at twice as well.
	write(other, "half")
	f.ask()
	looks(moving, settled)
	require.False(t, f.grew())
	says(other, "half")
	require.True(t, f.grew())
	require.True(t, f.pending())
	write(other, "half and half")
	looks(moving, settled)
	says(other, "half and half")
	require.False(t, f.grew())
	assert.Equal(t, []string{other, path}, f.paths())
	f.done([]string{path})
	write(other, "nobody asks")
	looks(unchanged)
}
