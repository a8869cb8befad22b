//go:build linux

package kube

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

var (
	schedules = flag.Int("schedules", 100, "random schedules of faults")
	seed      = flag.Uint64("seed", 0, "of the schedules; 0: another each time")
)

// quick are settings by which everything happens sooner than by default, and in the same order.
var quick = []string{"--hold-pending=300ms", "--hold-held=900ms", "--hold-lease=1400ms", "--hold-renew=200ms",
	"--hold-retry=300ms", "--hold-proxy-gone=700ms", "--hold-successor-wait=2s"}

// quicker are those of another version: what is let out at most is longer, and so is the wait.
var quicker = []string{"--hold-pending=400ms", "--hold-held=1200ms", "--hold-lease=1900ms", "--hold-renew=200ms",
	"--hold-retry=300ms", "--hold-proxy-gone=700ms", "--hold-successor-wait=2s"}

// fault is something that happens to a replica, and what ends it.
type fault struct {
	name       string
	harm, mend func(*replica)
}

// send sends a signal to some of the programs.
func send(which func(*replica) *part, s syscall.Signal) func(*replica) {
	return func(r *replica) { which(r).cmd.Process.Signal(s) }
}

func faults(f *failover) []fault {
	all := func(s syscall.Signal) func(*replica) { return func(r *replica) { r.signal(s) } }
	kube := func(r *replica) *part { return r.kube }
	netsetup := func(r *replica) *part { return r.netsetup }
	proxy := func(r *replica) *part { return r.proxy }
	again := func(r *replica) { r.kill(); r.start(quick...) }
	return []fault{
		{"all killed", all(syscall.SIGKILL), again},
		{"all frozen", all(syscall.SIGSTOP), all(syscall.SIGCONT)},
		{"told to end", all(syscall.SIGTERM), func(r *replica) { r.ended(); again(r) }},
		{"sluice-kube killed", send(kube, syscall.SIGKILL), again},
		{"sluice-kube frozen", send(kube, syscall.SIGSTOP), send(kube, syscall.SIGCONT)},
		{"sluice-netsetup killed", send(netsetup, syscall.SIGKILL), again},
		{"sluice-netsetup frozen", send(netsetup, syscall.SIGSTOP), send(netsetup, syscall.SIGCONT)},
		{"proxy killed", send(proxy, syscall.SIGKILL), again},
		{"API frozen", func(r *replica) { r.api.become(frozen) }, func(r *replica) { r.api.become(passes) }},
		{"API cut", func(r *replica) { r.api.become(cut) }, func(r *replica) { r.api.become(passes) }},
		{"cable", func(r *replica) { f.Nodes[r.index].Down("phys0") }, func(r *replica) { f.Nodes[r.index].Up("phys0") }},
		{"interface", func(r *replica) { r.ns.Down("macvlan0") }, func(r *replica) { r.ns.Up("macvlan0") }},
		{"updated", all(syscall.SIGTERM), func(r *replica) { r.ended(); r.kill(); r.start(quicker...) }},
		{"API server away", func(*replica) { f.api(cut) }, func(*replica) { f.api(passes) }},
	}
}

// gateways are at work at once: they wait most of the time.
const gateways = 8

// Whatever happens to whom and when, no two replicas use the address at a time, and somebody does
// when it is over.
func TestSchedules(t *testing.T) {
	use(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	for i := range gateways {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(*seed, uint64(i)))
			f := newFailover(t, 2+i%2, quick...)
			o := observe(t, f.Gateway)
			f.awaitHolder(nil)
			all := faults(f)
			for n := range (*schedules + gateways - 1 - i) / gateways {
				f.schedule(rnd, all)
				f.soon(fmt.Sprint("schedule ", n))
				o.never(t, f.grants())
			}
		})
	}
}

// schedule has one to three things happen, one behind the other or at once, to the holder or
// another.
func (f *failover) schedule(rnd *rand.Rand, all []fault) {
	f.t.Helper()
	var mend []func()
	hurt := map[*replica]bool{}
	said := ""
	for range 1 + rnd.IntN(3) {
		x, r := all[rnd.IntN(len(all))], f.replicas[rnd.IntN(len(f.replicas))]
		if h := f.holder(); h != nil && rnd.IntN(3) > 0 {
			r = h
		}
		if hurt[r] {
			continue // one thing for each
		}
		hurt[r] = true
		said += fmt.Sprintf(" %s of %d;", x.name, r.index)
		x.harm(r)
		mend = append(mend, func() { x.mend(r) })
		pause(rnd, 800*time.Millisecond)
	}
	if rnd.IntN(gateways) == 0 { // about one of them is busy at any time
		said += " busy;"
		defer f.busy()()
	}
	pause(rnd, 2*time.Second)
	for _, m := range mend {
		m()
		pause(rnd, 300*time.Millisecond)
	}
	f.t.Log(said)
}

func pause(rnd *rand.Rand, most time.Duration) { time.Sleep(time.Duration(rnd.Int64N(int64(most)))) }

// busy keeps both processors busy until the function that it returns is called, or the test ends.
func (f *failover) busy() (end func()) {
	var loops []*exec.Cmd
	for range 2 {
		c := exec.CommandContext(f.t.Context(), "sh", "-c", fmt.Sprintf("while kill -0 %d; do :; done", os.Getpid())) // not longer than the test
		require.NoError(f.t, c.Start())
		loops = append(loops, c)
	}
	return func() {
		for _, c := range loops {
			c.Process.Kill()
			c.Wait()
		}
	}
}

// page is what a client gets by way of the Service; "" for nothing.
func (f *failover) page() string {
	target := f.endpoint()
	if target == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
	defer cancel()
	answer, err := (&steady{f: f}).page(ctx, target)
	if err != nil {
		return err.Error()
	}
	return answer
}

// soon waits until a page comes from the held address again, and returns how long that took.
func (f *failover) soon(behind string) time.Duration {
	f.t.Helper()
	last, begun := "", time.Now()
	if !nettest.Within(60*time.Second, func() bool { last = f.page(); return last == "200 "+nettest.HeldV4 }) {
		require.Fail(f.t, "nobody serves", "behind %s: %s", behind, last)
	}
	return time.Since(begun)
}
