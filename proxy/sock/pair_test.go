package sock

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// A pair whose one end takes nothing holds a bounded number of bytes, whichever end that is.
func TestPairIsBounded(t *testing.T) {
	block := make([]byte, 64<<10)
	for _, from := range []string{"near", "far"} {
		near, fd, err := Pair()
		require.NoError(t, err)
		far := New(fd, near.Local())
		sender := map[string]*Conn{"near": near, "far": far}[from]
		sent, since := 0, 0 // since it took anything, in looks
		nettest.Eventually(t, "it takes no more", func() bool {
			require.NoError(t, sender.Control(func(fd uintptr) {
				for since++; ; since = 0 {
					n, err := TryWrite(int(fd), block)
					if err != nil {
						assert.Equal(t, unix.EAGAIN, err)
						return
					}
					sent += n
				}
			}))
			return since > 20
		})
		assert.LessOrEqual(t, sent, 4*pairBuffer, from)
		assert.Greater(t, sent, pairBuffer/2, from)
		near.Close()
		far.Close()
	}
}
