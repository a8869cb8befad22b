package inspect

import (
	"net/http"
	"time"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// writer is what goproxy writes an answer to. What it writes of its own, without one of the front
// door's, goes nowhere, and the stream is reset behind it.
type writer struct{ x *exchange }

// Header are the fields of the answer, and behind its body those of the trailer section.
func (w writer) Header() http.Header { return w.x.w.Header() }

// WriteHeader sends the head, and nothing that is not in it.
func (w writer) WriteHeader(status int) {
	x := w.x
	if x.resp == nil || x.lost {
		x.lost = true
		return
	}
	h := x.w.Header()
	for _, name := range []string{"Content-Length", "Content-Type", "Date"} { // which net/http would invent
		if _, there := h[name]; !there {
			h[name] = nil
		}
	}
	x.w.WriteHeader(status)
	if !x.body.Empty() { // else the stream ends with the head
		w.Flush()
	}
}

// Write sends a piece of the body at once.
func (w writer) Write(b []byte) (int, error) {
	x := w.x
	if x.resp == nil || x.lost {
		x.lost = true
		return 0, http.ErrAbortHandler
	}
	x.guard(true)
	defer x.guard(false)
	n, err := x.w.Write(b)
	if err == nil {
		err = http.NewResponseController(x.w).Flush()
	}
	if err != nil {
		x.lost = true
	}
	return n, err
}

// Flush sends what there is.
func (w writer) Flush() {
	w.x.guard(true)
	defer w.x.guard(false)
	if err := http.NewResponseController(w.x.w).Flush(); err != nil {
		w.x.lost = true
	}
}

// guard has the stream reset when the client takes nothing for too long: on, until off.
func (x *exchange) guard(on bool) {
	limit := x.t.s.Stalled
	switch {
	case limit == 0:
	case !on:
		x.stalled.Stop()
	case x.stalled == nil:
		control := http.NewResponseController(x.w)
		x.stalled = time.AfterFunc(limit, func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			if !x.done { // or there is no stream any more
				control.SetWriteDeadline(time.Unix(1, 0))
			}
		})
	default:
		x.stalled.Reset(limit)
	}
}

// interim sends an interim answer.
func (x *exchange) interim(resp *http1.Response) {
	h := x.w.Header()
	for name, values := range fields(&resp.Head) {
		h[name] = values
	}
	// So that x/net/http2 writes a copy: where the client resets the stream it does not wait for
	// who writes, and two who have one map are the end of the process.
	h["Content-Length"] = nil
	x.w.WriteHeader(resp.Status)
	clear(h)
}

// refused has the front door refuse the request, without goproxy.
func (x *exchange) refused() {
	resp, err := x.roundTrip()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w := writer{x}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	buf := copies.Get().(*[32 << 10]byte)
	defer copies.Put(buf)
	for {
		n, err := x.body.Read(buf[:])
		if n > 0 {
			w.Write(buf[:n])
		}
		if err != nil {
			break
		}
	}
	if !x.whole() {
		panic(http.ErrAbortHandler)
	}
}
