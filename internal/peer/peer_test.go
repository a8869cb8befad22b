package peer

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	_, err = Listen(path)
	require.ErrorContains(t, err, "another program serves")
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as when it is killed
	require.NoError(t, l.Close())
	l, err = Listen(path)
	require.NoError(t, err, "what was left behind is replaced")
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Listen(path)
	require.ErrorContains(t, err, "no socket")
	_, err = Listen(filepath.Join(t.TempDir(), "none", "s"))
	require.ErrorContains(t, err, "none/s does not exist: make it, or mount there what the programs of the pod share")
}

// What is not hello, or of another version, is said so; and nothing of what may be secret.
func TestGreet(t *testing.T) {
	p := Protocol{Name: "the protocol of tests", Version: 2}
	for line, want := range map[string]string{
		`{"hello":{"protocol":2}}`:                "",
		`{"hello":{"protocol":1,"version":"v1"}}`: "the other v1 speaks version 1 of the protocol of tests, and this program version 2: run both from one image",
		`{"bye":{}}`:               "the other said something else than hello",
		`secret`:                   "the other said no hello: a line is no message: wrong JSON at byte 1",
		`{"hello":7}`:              "the other said no hello: a line is no message: wrong types in it",
		strings.Repeat("x", 1<<20): "the other said no hello: a line is too long",
	} {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			buf := make([]byte, 1000)
			far.Read(buf)
			far.Write([]byte(line + "\n"))
		}()
		c := New(near, 1<<16)
		err := c.Greet(p, "v2", "the other")
		if want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, want)
		}
		c.Close()
	}
}

// One that closes the connection at once is named as one that says something else is.
func TestGreetClosed(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer l.Close()
	near, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	far, err := l.Accept()
	require.NoError(t, err)
	far.Close()
	c := New(near, 1<<16)
	defer c.Close()
	err = c.Greet(Protocol{Name: "the protocol of tests", Version: 2}, "v2", "the other")
	assert.ErrorContains(t, err, "the other said no hello: write unix")
}
