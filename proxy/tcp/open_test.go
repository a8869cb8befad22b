package tcp

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// What is open can be listed, cut, and revoked by a policy that would not admit it: by the
// destination, and the address in use.
func TestOpen(t *testing.T) {
	r := start(t)
	r.dns.Set("db.test", nettest.Addrs("127.0.0.2"))
	a, b := serve(t, "127.0.0.2:0", echo), serve(t, "127.0.0.3:0", echo)
	byName := "db.test:" + fmt.Sprint(a.addr.Port())
	r.must(listener(t, byName), listener(t, b.addr.String()))
	nettest.Eventually(t, "addresses are known", r.Ready)
	first, second := r.connect(0), r.connect(1)
	echoes(t, first, "hello")
	echoes(t, second, "you")
	var open []door.Open
	nettest.Eventually(t, "the bytes are counted", func() bool {
		open = r.Open()
		return len(open) == 2 && open[0].Sent+open[1].Sent == int64(len("hello")+len("you"))
	})
	for _, o := range open {
		assert.Equal(t, door.Tunnel, o.State)
		assert.WithinDuration(t, time.Now(), o.Since, time.Minute)
		if o.Addr == a.addr {
			assert.Equal(t, "db.test", o.Target.Host.Name())
			assert.Equal(t, first.LocalAddr().String(), o.Client.String())
			assert.EqualValues(t, 5, o.Received)
			assert.EqualValues(t, 5, o.Sent)
		} else {
			assert.Equal(t, b.addr, o.Addr)
		}
	}
	assert.Zero(t, r.Revoke(), "all of it is allowed")

	p, err := acl.Parse("!127.0.0.2\n*")
	require.NoError(t, err)
	next := policy.Set{Name: policy.Name{Number: 2, Hash: "0123456789abcdef"}, KeepOpen: true, Rest: policy.Tenant{Rules: p.WithGuard(acl.Guard{Mode: acl.GuardOff})}}
	r.SetGeneration(next.Generation())
	assert.Zero(t, r.Revoke(), "it is kept")
	next.KeepOpen = false
	r.SetGeneration(next.Generation())
	assert.Equal(t, 1, r.Revoke())
	io.ReadAll(first)
	nettest.Eventually(t, "it is booked", func() bool { return len(r.Open()) == 1 })
	assert.Equal(t, "revoked", r.last(1).End)
	assert.Equal(t, "line 1 !127.0.0.2", r.last(1).Revoked.Reason())
	assert.EqualValues(t, 2, r.last(1).Revoked.By.Number)
	echoes(t, second, "is let be")

	assert.Equal(t, 1, r.Cut(func(o *door.Open) bool { return o.Addr == b.addr }))
	io.ReadAll(second)
	nettest.Eventually(t, "it is booked", func() bool { return len(r.Open()) == 0 })
	assert.Equal(t, "cut", r.last(2).End)
}

// What is put in force while a destination is being connected to holds for that connection.
func TestRulesChangeDuringAHandshake(t *testing.T) {
	r := start(t)
	at, accept := nettest.FullQueue(t)
	l := listener(t, at.String())
	l.Check = Check{}
	r.must(l)
	c := r.connect(0)
	nettest.Eventually(t, "it is listed with its target", func() bool {
		open := r.Open()
		return len(open) == 1 && open[0].State == door.Request && open[0].Target.Port == at.Port()
	})
	p, err := acl.Parse("!127.0.0.0/8\n*")
	require.NoError(t, err)
	r.SetGeneration(policy.New(policy.Tenant{Rules: p.WithGuard(acl.Guard{Mode: acl.GuardOff})}))
	assert.Zero(t, r.Revoke(), "it has no destination yet")
	accept()
	io.ReadAll(c)
	nettest.Eventually(t, "it has ended", func() bool { return len(r.Open()) == 0 })
}
