package tcp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a session was is nothing to the next that has its place: while the sweeper cuts
// those that are idle, others come, go and reset, each with bytes of its own, and a line
// of its own in the log.
func TestReuseKeepsSessionsApart(t *testing.T) {
	type kind struct {
		client netip.AddrPort
		bytes  int64
		end    string
	}
	r := start(t)
	s := serve(t, "127.0.0.1:0", echo)
	r.config.IdleTimeout = time.Second
	r.must(listener(t, s.addr.String()))
	addr := r.Status()[0].Addr.String()
	var mu sync.Mutex
	made, want := 0, make(map[kind]int)
	one := func(n int, end string) bool {
		nc, err := net.Dial("tcp", addr)
		if !assert.NoError(t, err) {
			return false
		}
		c := nc.(*net.TCPConn)
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		mu.Lock()
		made++
		want[kind{c.LocalAddr().(*net.TCPAddr).AddrPort(), int64(n), end}]++
		mu.Unlock()
		sent, got := bytes.Repeat([]byte{byte(n)}, n), make([]byte, n)
		go c.Write(sent)
		_, err = io.ReadFull(c, got)
		if !assert.NoError(t, err) || !assert.True(t, bytes.Equal(sent, got)) {
			return false
		}
		switch end {
		case "reset":
			c.SetLinger(0)
		case "idle":
			_, err := c.Read(got)
			return assert.Equal(t, io.EOF, err)
		}
		return true
	}
	stop := make(chan struct{})
	var idle, busy sync.WaitGroup
	for range 3 {
		idle.Go(func() { _ = one(7, "idle") && one(8, "idle") })
		busy.Go(func() {
			for one(1+rand.IntN(3000), []string{"closed", "reset"}[rand.IntN(2)]) {
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	idle.Wait()
	close(stop)
	busy.Wait()
	r.last(made)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		k := kind{rec.Client, rec.Received, rec.End}
		require.NotZero(t, want[k], "%+v", rec)
		require.Equal(t, rec.Received, rec.Sent)
		want[k]--
	}
	assert.Len(t, r.records, made)
}
