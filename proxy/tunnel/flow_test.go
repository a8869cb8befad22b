package tunnel

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// waitFor waits until fd is ready for events.
func waitFor(t testing.TB, fd int, events int16) {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 10_000)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func bare(t testing.TB, c *sock.Conn) int {
	fd, ok := c.Bare()
	require.True(t, ok)
	return fd
}

// A flow takes its bytes and no more, by buffer and by pipe, also when the receiver is
// slow, and holds nothing at its end.
func TestFlow(t *testing.T) {
	for name, budget := range map[string]*fdbudget.Budget{"splice": fdbudget.New(100), "no descriptors": fdbudget.New(0)} {
		for _, n := range []int{1, bufferSize, bulkBody - 1, 3*bulkBody + 7, 20 << 20} {
			t.Run(name, func(t *testing.T) {
				p := newPump(t, budget)
				defer p.Close()
				far, src := near(t)
				dst, receiver := near(t)
				from, to := bare(t, src), bare(t, receiver)
				body := noise(n)
				go func() {
					far.Write(body)
					far.Write([]byte("next"))
				}()
				got := make(chan []byte)
				receive := make(chan struct{})
				go func() {
					<-receive
					b := make([]byte, n)
					io.ReadFull(dst, b)
					got <- b
				}()
				var f Flow
				touches, writes := 0, 0
				p.NewFlow(&f, int64(n), func() { touches++ })
				for done := false; !done; {
					progress, readErr, writeErr := f.Move(from, to)
					require.NoError(t, readErr)
					require.NoError(t, writeErr)
					switch progress {
					case Reads:
						waitFor(t, from, unix.POLLIN)
					case Writes:
						if writes++; writes == 1 {
							close(receive)
						}
						waitFor(t, to, unix.POLLOUT)
					case Done:
						done = true
					}
				}
				if writes == 0 {
					close(receive)
				}
				assert.True(t, bytes.Equal(body, <-got))
				assert.EqualValues(t, n, f.Moved())
				assert.Positive(t, touches)
				assert.Nil(t, f.d.buf)
				assert.Nil(t, f.d.pipe)
				rest := make([]byte, 10)
				waitFor(t, from, unix.POLLIN)
				k, err := sock.TryRead(from, rest)
				require.NoError(t, err)
				assert.Equal(t, "next", string(rest[:k]))
				if n > 10<<20 {
					assert.Positive(t, writes, "the receiver was slow")
				}
			})
		}
	}
}

func TestFlowEnds(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	var f Flow
	far, src := near(t)
	_, receiver := near(t)
	far.Write([]byte("abc"))
	far.Close()
	p.NewFlow(&f, 10, func() {})
	from := bare(t, src)
	waitFor(t, from, unix.POLLIN)
	progress, readErr, writeErr := f.Move(from, bare(t, receiver))
	for progress == Reads {
		waitFor(t, from, unix.POLLRDHUP)
		progress, readErr, writeErr = f.Move(from, bare(t, receiver))
	}
	assert.Equal(t, Done, progress)
	assert.Equal(t, io.ErrUnexpectedEOF, readErr)
	assert.NoError(t, writeErr)
	assert.EqualValues(t, 3, f.Moved())

	for _, n := range []int64{10, 10 << 20} {
		far, src = near(t)
		dst, receiver := near(t)
		dst.SetLinger(0)
		dst.Close() // reset
		go func() {
			far.SetDeadline(time.Now().Add(10 * time.Second))
			far.Write(noise(int(n)))
		}()
		to := bare(t, receiver)
		waitFor(t, to, unix.POLLRDHUP)
		p.NewFlow(&f, n, func() {})
		for writeErr = nil; writeErr == nil; {
			waitFor(t, bare(t, src), unix.POLLIN)
			progress, readErr, writeErr = f.Move(bare(t, src), to)
			require.NoError(t, readErr)
		}
		assert.Equal(t, Done, progress)
		assert.ErrorIs(t, ended(writeErr), ErrReset)
		far.Close()
	}
}
