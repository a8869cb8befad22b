package streams

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/wire"
)

// upload is the body of a request on its way. Read and Close may be called concurrently.
type upload struct {
	far     *sock.Conn
	from    wire.Body
	over    chan struct{} // closed when nobody reads any more
	reading atomic.Bool

	mu     sync.Mutex // held by Read
	closed atomic.Bool
	once   sync.Once
}

// Read reads what has come, or waits for it.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	u.reading.Store(true)
	n, err := u.from.Read(p)
	u.reading.Store(false)
	switch {
	case err == nil:
	case !u.closed.Load():
		u.finish()
	case err != io.EOF: // Close finishes: until it has lifted its deadline nobody else may wait
		err = http.ErrBodyReadAfterClose
	}
	return n, err
}

// Close ends a Read that waits. Nobody reads after it has returned.
func (u *upload) Close() error {
	if !u.closed.Swap(true) {
		select {
		case <-u.over:
			return nil
		default:
		}
		u.far.SetReadDeadline(time.Unix(1, 0))
		u.mu.Lock()
		defer u.mu.Unlock()
		u.far.SetReadDeadline(time.Time{})
		u.finish()
	}
	return nil
}

// finish says that nobody reads the body any more.
func (u *upload) finish() { u.once.Do(func() { close(u.over) }) }
