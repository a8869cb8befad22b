//go:build linux

package kube

import (
	"bufio"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// One replica has the address. Whatever becomes of it, another has it soon, from the same address,
// and never two at a time.
func TestTakeOver(t *testing.T) {
	f := newFailover(t, 2)
	o := observe(t, f.Gateway)
	f.awaitHolder(nil)
	s := f.steady()
	nettest.Eventually(t, "the client is served", func() bool { return s.count() > 10 })
	s.outage()
	var idle func()
	for _, c := range []struct {
		name string // of events
		harm func(r *replica)
		mend func(r *replica) // behind it
	}{
		{"the holder's pod killed", func(r *replica) { r.signal(syscall.SIGKILL) }, (*replica).again},
		{"all of it frozen (`SIGSTOP`)", func(r *replica) { r.signal(syscall.SIGSTOP) }, func(r *replica) { r.signal(syscall.SIGCONT) }},
		{"`sluice-kube` killed", func(r *replica) { r.kube.cmd.Process.Signal(syscall.SIGKILL) }, (*replica).again},
		{"`sluice-kube` frozen", func(r *replica) { r.kube.cmd.Process.Signal(syscall.SIGSTOP) }, func(r *replica) { r.signal(syscall.SIGCONT) }},
		{"`sluice-netsetup` killed", func(r *replica) { r.netsetup.cmd.Process.Signal(syscall.SIGKILL) }, (*replica).again},
		{"the holder cut from the API server", func(r *replica) { r.api.become(frozen) }, func(r *replica) { r.api.become(passes) }},
		{"the holder refused by the API server", func(r *replica) { r.api.become(cut) }, func(r *replica) { r.api.become(passes) }},
		{"the node's cable out", func(r *replica) { f.Nodes[r.index].Down("phys0") }, func(r *replica) { f.Nodes[r.index].Up("phys0") }},
		{"the pod's interface down", func(r *replica) { r.ns.Down("macvlan0") }, func(r *replica) { r.ns.Up("macvlan0") }},
		{"the holder cut from the gateway, its interface up", func(r *replica) { f.Unplug(r.index) }, func(r *replica) { f.Plug(r.index) }},
		{"the holder's pod killed, both processors busy", func(r *replica) { idle = f.busy(); r.signal(syscall.SIGKILL) }, func(r *replica) { idle(); r.again() }},
		{"`sluice` killed, and not back", func(r *replica) { r.proxy.cmd.Process.Signal(syscall.SIGKILL) }, (*replica).again},
		{"told to end, as by a drain of its node", func(r *replica) { r.signal(syscall.SIGTERM) }, func(r *replica) { r.ended(); r.again() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := f.awaitHolder(nil)
			nettest.Eventually(t, "the other waits for its turn", func() bool { return f.standsBy(was) })
			s.outage()
			c.harm(was)
			f.awaitHolder(was)
			took := s.outage()
			c.mend(was)
			measured(t, c.name, took)
			o.never(t, f.grants())
		})
	}
	assert.Empty(t, s.wrong)
}

// again starts the programs anew, as those of another pod.
func (r *replica) again() {
	r.kill()
	r.start()
}

// standsBy reports whether the replica beside that one has proxies, and knows what the Lease says.
func (f *failover) standsBy(not *replica) bool {
	for _, r := range f.replicas {
		if r != not && len(r.running()) > 0 && !r.ready() {
			return false
		}
	}
	return true
}

// ready reports whether the replica has a proxy: it could take over.
func (r *replica) ready() bool { return strings.Contains(r.saidNow(), "a proxy has come") }

// A proxy that is to end does not wait for a successor when sluice-kube hold, which would tell, is
// gone for good.
func TestProxyForsaken(t *testing.T) {
	f := newFailover(t, 1)
	r := f.awaitHolder(nil)
	r.kube.cmd.Process.Signal(syscall.SIGSTOP)
	r.proxy.cmd.Process.Signal(syscall.SIGTERM)
	nettest.Eventually(t, "it waits", func() bool { return strings.Contains(r.saidNow(), "waiting for a successor") })
	r.kube.cmd.Process.Signal(syscall.SIGKILL)
	select {
	case <-r.proxy.done:
	case <-time.After(30 * time.Second):
		t.Fatal("it has not ended")
	}
}

// sluice tcp follows the turn as well, beside the proxy: it connects from what is held, and all
// end when they are told to.
func TestTCPFollowsTheTurn(t *testing.T) {
	f := newFailover(t, 1)
	r := f.awaitHolder(nil)
	tcp := r.run("tcp", program.Racy(t), []string{"EGRESS_SOURCE=" + nettest.HeldV4 + "," + nettest.HeldV6,
		"EGRESS_DNS_PROXY_DESTINATION=7000 " + nettest.ServerAV4 + " 7"},
		"tcp", "--admin", "off", "--holder", r.path("serving.sock"), "--access-log", "off")
	e := &echo{}
	nettest.Eventually(t, "it serves", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c, err := f.Client.DialContext(ctx, "tcp", nettest.PodOf(0)+":7000")
		if err != nil {
			return false
		}
		t.Cleanup(func() { c.Close() })
		e = &echo{c, bufio.NewReader(c)}
		return e.works(2 * time.Second)
	})
	r.signal(syscall.SIGTERM)
	tcp.cmd.Process.Signal(syscall.SIGTERM)
	r.ended()
	select {
	case <-tcp.done:
	case <-time.After(30 * time.Second):
		t.Fatal("it has not ended")
	}
	text, err := os.ReadFile(tcp.log)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "DATA RACE")
	assert.Zero(t, tcp.cmd.ProcessState.ExitCode(), string(text))
}
