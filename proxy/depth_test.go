package proxy

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Whoever sends requests that fill a read each, as many as it likes, costs no stack: one is
// not begun within the one before, also where a client is begun with outside of a loop.
func TestRefusalsDoNotNest(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var deepest, lines atomic.Int64
	log := linelog.New(io.Discard, linelog.Options{Room: 1 << 24})
	defer log.Close(time.Minute)
	g := start(t, "!denied.test\n", nil, func(o *Options) {
		o.Access = accesslog.New(log, func(b []byte, _ *accesslog.Request) []byte {
			depth := int64(runtime.Callers(0, make([]uintptr, 5000)))
			deepest.Store(max(deepest.Load(), depth))
			lines.Add(1)
			return b
		})
	})
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c := g.free.Get().(*conn)
	l.Room = func() *sock.Conn { return c.tcp }
	client, err := dialFrom(t, "127.0.0.1", l.Addr().String())
	require.NoError(t, err)
	nettest.Eventually(t, "it is taken", func() bool { got, err := l.Take(); return err == nil && got != nil })
	const many = 100
	head := "GET http://denied.test/%s HTTP/1.1\r\nHost: x\r\n\r\n"
	request := fmt.Sprintf(head, strings.Repeat("a", headRoom-len(head)+2))
	require.Len(t, request, headRoom)
	_, err = client.Write(bytes.Repeat([]byte(request), many))
	require.NoError(t, err)
	go io.Copy(io.Discard, client)
	require.Zero(t, g.door.Enter(c, door.Limits{}))
	c.start(nil)
	nettest.Eventually(t, "all are answered", func() bool { return lines.Load() == many })
	assert.Less(t, deepest.Load(), int64(60))
}
