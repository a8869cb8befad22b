package outbound

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// oneWrite collects records, to be sent at once.
type oneWrite struct {
	net.Conn
	held *bytes.Buffer
}

func (w *oneWrite) Write(b []byte) (int, error) {
	if w.held != nil {
		return w.held.Write(b)
	}
	return w.Conn.Write(b)
}

// What was read ahead of a large record is given out in its order, and as long as any of it is left, a
// whole record or a part of one, no other request may go over the connection.
func TestReadAheadIsNotQuiet(t *testing.T) {
	ca := nettest.NewCA(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<10) // a record
	for name, extra := range map[string]int{"nothing": 0, "a record": 1 << 20, "a part of one": 40_000} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				w := &oneWrite{Conn: c}
				s := tls.Server(w, &tls.Config{Certificates: []tls.Certificate{ca.Issue("a.test")}, DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true})
				if s.Handshake() != nil {
					return
				}
				if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
					return
				}
				w.held = new(bytes.Buffer)
				s.Write(body)
				whole := w.held.Len()
				s.Write(make([]byte, 60<<10)) // more than crypto/tls reads by the way
				c.Write(w.held.Bytes()[:min(w.held.Len(), whole+extra)])
				io.Copy(io.Discard, c)
			}()
			at := l.Addr().(*net.TCPAddr).AddrPort()
			plain, err := net.Dial("tcp", at.String())
			require.NoError(t, err)
			f, err := plain.(*net.TCPConn).File()
			require.NoError(t, err)
			plain.Close()
			tcp := sock.New(dup(t, f), netip.AddrPortFrom(at.Addr(), at.Port()))
			defer tcp.Close()
			tcp.SetDeadline(time.Now().Add(20 * time.Second))
			c := &Conn{TCP: tcp}
			require.NoError(t, c.Blocking().Secure(t.Context(), "a.test", &tls.Config{RootCAs: ca.Pool}))
			_, err = c.Blocking().Write([]byte("x"))
			require.NoError(t, err)
			got := make([]byte, len(body))
			_, err = io.ReadFull(c.Blocking(), got)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(body, got))
			assert.Equal(t, extra == 0, c.Quiet())
			tcp.Close()
			<-done
		})
	}
}

// dup is the descriptor of f, which is closed.
func dup(t *testing.T, f interface {
	Fd() uintptr
	Close() error
}) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(fd, true))
	f.Close()
	return fd
}

// What is left ahead is none of a connection that is at rest, and is given out to whoever looks, also where it
// begins with a record.
func TestAheadIsLeft(t *testing.T) {
	room := aheadRooms.Get().(*[aheadRoom]byte)
	r := &records{room: room, ahead: append(room[:0], 22, 3, 3, 0, 1, 'x'), looking: true}
	assert.False(t, r.whole())
	b := make([]byte, 5)
	n, err := r.Read(b)
	require.NoError(t, err)
	assert.Equal(t, []byte{22, 3, 3, 0, 1}, b[:n])
	assert.False(t, r.whole())
	n, err = r.Read(b)
	require.NoError(t, err)
	assert.Equal(t, []byte{'x'}, b[:n])
	assert.True(t, r.whole())
	assert.Nil(t, r.room)
	_, err = r.Read(b)
	assert.Equal(t, errNothing, err)
}
