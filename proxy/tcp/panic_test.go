package tcp

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// A panic ends the session in whose service it comes about, and no other; nothing that was
// booked for it is lost.
func TestPanicEndsOneSession(t *testing.T) {
	panics := make(chan string, 10)
	budget := fdbudget.New(100)
	r := start(t, func(o *Options) {
		o.Budget = budget
		o.Access = accessLog(t, func([]byte, *accesslog.Connection) []byte { panic("a fault") })
		o.Panicked = func(cause any, stack []byte) { panics <- fmt.Sprint(cause) }
	})
	up := serve(t, "127.0.0.1:0", echo)
	r.must(listener(t, up.addr.String()), listener(t, "127.0.0.1:1"))
	other := r.connect(0)
	echoes(t, other, "before")
	c := r.connect(0)
	echoes(t, c, "a word")
	c.Close()
	assert.Equal(t, "a fault", <-panics, "at the end of a tunnel")
	_, err := r.ask(1)
	assert.Error(t, err)
	assert.Equal(t, "a fault", <-panics, "at the end of one that came to nothing")
	echoes(t, other, "after")
	nettest.Eventually(t, "only the other one holds descriptors", func() bool { return budget.Left() == 98 })
	other.Close()
	assert.Equal(t, "a fault", <-panics)
	nettest.Eventually(t, "none does", func() bool { return budget.Left() == 100 })
}
