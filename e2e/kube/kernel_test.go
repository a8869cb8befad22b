//go:build linux

package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// grant is when the kernel of a replica was told to let an address out, after it had not.
type grant struct {
	addr netip.Addr
	mac  string
	at   time.Time
	till time.Time // when it does not any more, as far as is known
}

// kernelLog takes down what the fence of a pod is told, as the kernel itself tells it: also by
// programs that were killed or frozen before they could say so.
type kernelLog struct {
	mac string

	mu   sync.Mutex
	last map[netip.Addr]*grant
	all  []*grant
	lost error
}

// listenToFence starts one, which ends with the test.
func listenToFence(t testing.TB, pod *nettest.Netns) *kernelLog {
	t.Helper()
	k := &kernelLog{mac: pod.MAC("macvlan0"), last: map[netip.Addr]*grant{}}
	m := nftables.NewMonitor(nftables.WithMonitorEventBuffer(100))
	var events chan *nftables.MonitorEvents
	require.NoError(t, pod.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		events, err = conn.AddGenerationalMonitor(m)
		return err
	}))
	over := make(chan struct{})
	go func() {
		defer close(over)
		for e := range events {
			k.note(e.Changes, time.Now())
		}
	}()
	t.Cleanup(func() {
		m.Close()
		<-over
	})
	return k
}

// note takes down the changes of one transaction. One that lets out what was not let out before
// is a grant; what it takes out and puts in again was in.
func (k *kernelLog) note(changes []*nftables.MonitorEvent, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	added, removed := map[netip.Addr]time.Duration{}, map[netip.Addr]bool{}
	for _, c := range changes {
		if c.Error != nil {
			k.lost = c.Error
		}
		elements, _ := c.Data.([]nftables.SetElement)
		for _, e := range elements {
			addr, _ := netip.AddrFromSlice(e.Key)
			if e.Timeout == 0 && e.Expires == 0 || addr.String() != nettest.HeldV4 && addr.String() != nettest.HeldV6 {
				continue
			}
			if c.Type == nftables.MonitorEventTypeNewSetElem {
				added[addr] = e.Timeout
			} else {
				removed[addr] = true
			}
		}
	}
	for addr := range removed {
		if last := k.last[addr]; last != nil && last.till.After(now) {
			last.till = now
		}
	}
	for addr, timeout := range added {
		if last := k.last[addr]; last == nil || !removed[addr] && now.After(last.till) {
			k.last[addr] = &grant{addr: addr, mac: k.mac, at: now}
			k.all = append(k.all, k.last[addr])
		}
		k.last[addr].till = now.Add(timeout)
	}
}

// grants are those of the pod's kernel.
func (k *kernelLog) grants(t testing.TB) (all []grant) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	require.NoError(t, k.lost, "what the kernel said was lost")
	for _, g := range k.all {
		all = append(all, *g)
	}
	return all
}

// lets reports whether the kernel lets an address out.
func (k *kernelLog) lets(addr string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := k.last[netip.MustParseAddr(addr)]
	return last != nil && time.Now().Before(last.till)
}

// grants are those of all replicas.
func (f *failover) grants() (all []grant) {
	for _, r := range f.replicas {
		all = append(all, r.kernel.grants(f.t)...)
	}
	return all
}

// both says where two kernels were to let out an address at a time, as far as can be told by when
// the test has heard of it.
func both(grants []grant) string {
	const slack = 200 * time.Millisecond
	var b strings.Builder
	for i, g := range grants {
		for _, h := range grants[:i] {
			if g.addr == h.addr && g.mac != h.mac && g.at.Add(slack).Before(h.till) && h.at.Add(slack).Before(g.till) {
				fmt.Fprintf(&b, "%s is let out by %s from %s to %s, and by %s from %s to %s\n", g.addr,
					g.mac, g.at.Format(clock), g.till.Format(clock), h.mac, h.at.Format(clock), h.till.Format(clock))
			}
		}
	}
	return b.String()
}

const clock = "15:04:05.000"

// askForHeld has the gateway ask who has the held addresses, again and again, until the test ends:
// each kernel that lets one out answers.
func (f *failover) askForHeld() {
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			for _, a := range []string{nettest.HeldV4, nettest.HeldV6} {
				f.Gateway.Forget("lan0", a)
				f.Gateway.Do(func() error {
					addr := netip.MustParseAddr(a)
					family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: 9, Addr: addr.As16()})
					if addr.Is4() {
						family, to = unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: addr.As4()}
					}
					fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
					if err != nil {
						return err
					}
					defer unix.Close(fd)
					return unix.Sendto(fd, []byte("x"), 0, to)
				})
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	f.t.Cleanup(func() { close(stop); <-over })
}
