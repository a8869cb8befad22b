package fence

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/fencetime"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// one loads the fence of a group.
func one(t *testing.T, g Group, weak bool) *Fence {
	t.Helper()
	fs, err := load([]Group{g}, weak)
	require.NoError(t, err)
	require.Len(t, fs, 1)
	require.Equal(t, weak, fs[0].Weak)
	return fs[0]
}

// hold holds the group's addresses for v.
func hold(t *testing.T, f *Fence, v time.Duration) {
	t.Helper()
	n := nonce()
	require.NoError(t, f.Prepare(n, time.Second))
	require.NoError(t, f.Commit(n, v, false))
}

var lastNonce uint64

func nonce() (n Nonce) {
	lastNonce++
	copy(n[:], fmt.Sprintf("%016d", lastNonce))
	return n
}

// elements are those of all sets of the group: "family set key".
func elements(t *testing.T, group string) (all []string) {
	t.Helper()
	conn, err := nftables.New()
	require.NoError(t, err)
	for _, family := range families(false) {
		table := tables(group)[family]
		there, err := conn.ListTablesOfFamily(family)
		require.NoError(t, err)
		if !slices.ContainsFunc(there, func(o *nftables.Table) bool { return o.Name == table.Name }) {
			continue
		}
		sets, err := conn.GetSets(table)
		require.NoError(t, err)
		for _, s := range sets {
			es, err := conn.GetSetElements(s)
			require.NoError(t, err)
			for _, e := range es {
				if s.Name == pendingSet {
					all = append(all, fmt.Sprintf("%d %s %s", family, s.Name, e.Key))
					continue
				}
				a, _ := netip.AddrFromSlice(e.Key)
				all = append(all, fmt.Sprintf("%d %s %s", family, s.Name, a))
			}
		}
	}
	return all
}

// What is late is refused by the kernel, as a whole: nothing is changed in any family.
func TestRefused(t *testing.T) {
	const short, long = 50 * time.Millisecond, 20 * time.Second
	prepared := func(t *testing.T, f *Fence, p time.Duration) Nonce {
		n := nonce()
		require.NoError(t, f.Prepare(n, p))
		return n
	}
	tests := map[string]func(t *testing.T, f *Fence) (n Nonce, renewing bool){
		"never prepared": func(t *testing.T, f *Fence) (Nonce, bool) { return nonce(), false },
		"wrong nonce": func(t *testing.T, f *Fence) (Nonce, bool) {
			prepared(t, f, long)
			return nonce(), false
		},
		"committed twice": func(t *testing.T, f *Fence) (Nonce, bool) {
			n := prepared(t, f, long)
			require.NoError(t, f.Commit(n, long, false))
			return n, false
		},
		"renewed twice": func(t *testing.T, f *Fence) (Nonce, bool) {
			hold(t, f, long)
			n := prepared(t, f, long)
			require.NoError(t, f.Commit(n, long, true))
			return n, true
		},
		"let go between": func(t *testing.T, f *Fence) (Nonce, bool) {
			n := prepared(t, f, long)
			require.NoError(t, f.LetGo())
			return n, false
		},
		"let go before a renewal": func(t *testing.T, f *Fence) (Nonce, bool) {
			hold(t, f, long)
			require.NoError(t, f.LetGo())
			return prepared(t, f, long), true
		},
		"renewed and never held": func(t *testing.T, f *Fence) (Nonce, bool) { return prepared(t, f, long), true },
	}
	for _, after := range []time.Duration{0, 1, 2, 4, 6, 8, 10, 15, 20} {
		after *= time.Millisecond
		tests[fmt.Sprintf("attempt expired %s ago", after)] = func(t *testing.T, f *Fence) (Nonce, bool) {
			n := prepared(t, f, short)
			time.Sleep(short + after)
			return n, false
		}
		tests[fmt.Sprintf("held expired %s ago", after)] = func(t *testing.T, f *Fence) (Nonce, bool) {
			n := prepared(t, f, long)
			hold(t, f, short)
			time.Sleep(short + after)
			return n, true
		}
	}
	l := newLAN(t)
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			l.pod(t, func() {
				f := one(t, both, false)
				require.NoError(t, f.LetGo())
				n, renewing := c(t, f)
				before := elements(t, both.Name)
				err := f.Commit(n, long, renewing)
				require.ErrorIs(t, err, ErrRefused)
				require.EqualError(t, err, fmt.Sprintf("group egress, attempt %s: refused by the fence: the attempt has expired, or has ended, or what it would renew is not held any more", n))
				require.Equal(t, before, elements(t, both.Name))
			})
		})
	}
}

// An attempt in time holds in all families, and a renewal from then on anew.
func TestHeld(t *testing.T) {
	l := newLAN(t)
	l.pod(t, func() {
		f := one(t, both, false)
		fenced := []string{
			"3 fenced4 198.51.100.50",
			"1 fenced4 198.51.100.50", "1 fenced6 2001:db8:1::50",
			"5 fenced4 198.51.100.50", "5 fenced6 2001:db8:1::50",
		}
		held := []string{
			"3 held4 198.51.100.50",
			"1 held4 198.51.100.50", "1 held6 2001:db8:1::50",
			"5 held4 198.51.100.50", "5 held6 2001:db8:1::50",
		}
		left := func() time.Duration {
			left, err := f.Held()
			require.NoError(t, err)
			return left
		}
		require.ElementsMatch(t, fenced, elements(t, both.Name))
		require.Zero(t, left())
		hold(t, f, 5*time.Second)
		require.ElementsMatch(t, append(fenced, held...), elements(t, both.Name))
		require.InDelta(t, 5*time.Second, left(), float64(2*time.Second))
		n := nonce()
		require.NoError(t, f.Prepare(n, time.Second))
		require.NoError(t, f.Commit(n, 20*time.Second, true))
		require.InDelta(t, 20*time.Second, left(), float64(5*time.Second))
		require.NoError(t, f.LetGo())
		require.Zero(t, left())
		require.ElementsMatch(t, fenced, elements(t, both.Name))
		require.NoError(t, f.LetGo(), "what is not held can be let go")
	})
}

// A negative control: an element that is there and is simply added again lives on, however
// late that comes. This is why a commit deletes first.
func TestBareAddRefreshes(t *testing.T) {
	l := newLAN(t)
	l.pod(t, func() {
		f := one(t, both, false)
		hold(t, f, 2*time.Second)
		require.NoError(t, f.transaction("add", func(tr *transaction) {
			for _, set := range tr.held() {
				key := aa(nettest.SourceV4).AsSlice()
				if set.Name == held6 {
					key = aa(nettest.SourceV6).AsSlice()
				}
				tr.add(set, key, 30*time.Second)
			}
		}))
		left, err := f.Held()
		require.NoError(t, err)
		if left < 20*time.Second {
			t.Skip("this kernel does not refresh what is added again")
		}
	})
}

func TestTimes(t *testing.T) {
	l := newLAN(t)
	l.pod(t, func() {
		f := one(t, both, false)
		for _, d := range []time.Duration{-time.Second, 0, 500 * time.Microsecond, fencetime.Least - 1} {
			require.EqualError(t, f.Prepare(nonce(), d), fmt.Sprintf("prepare for %s: the shortest time that the fence takes is 10ms", d))
			n := nonce()
			require.NoError(t, f.Prepare(n, time.Minute))
			require.EqualError(t, f.Commit(n, d, false), fmt.Sprintf("hold for %s: the shortest time that the fence takes is 10ms", d))
			require.Contains(t, elements(t, both.Name), fmt.Sprintf("1 pending %s", n[:]), "the attempt stands")
		}
		require.EqualError(t, f.Prepare(nonce(), fencetime.Most+1), "prepare for 1m0.000000001s: the longest time that the fence takes is 1m0s")
		conn, err := nftables.New()
		require.NoError(t, err)
		for _, family := range families(false) {
			sets, err := conn.GetSets(tables(both.Name)[family])
			require.NoError(t, err)
			for _, s := range sets {
				if s.HasTimeout {
					require.Equal(t, defaultTimeout, s.Timeout, s.Name)
				}
			}
		}
	})
}

// Two groups are held, and refused, each by itself.
func TestGroups(t *testing.T) {
	l := newLAN(t)
	other := Group{"other", []netip.Addr{aa("198.51.100.51")}}
	l.pod(t, func() {
		fs, err := Load([]Group{both, other})
		require.NoError(t, err)
		n := nonce()
		require.NoError(t, fs[0].Prepare(n, time.Minute))
		require.ErrorIs(t, fs[1].Commit(n, time.Minute, false), ErrRefused, "the attempt of another group")
		require.NoError(t, fs[1].LetGo())
		require.NoError(t, fs[0].Commit(n, time.Minute, false))
		hold(t, fs[1], time.Minute)
		require.NoError(t, fs[0].LetGo())
		left, err := fs[1].Held()
		require.NoError(t, err)
		require.NotZero(t, left)
		for _, g := range []Group{{"", both.Addrs}, {"a b", both.Addrs}, {"-a", both.Addrs}, {"x", nil}} {
			_, err := Load([]Group{g})
			require.Error(t, err, g.Name)
		}
	})
}

// An address that is there before the fence is an error; one that an earlier fence was there
// for is not, and what is held goes on being held.
func TestLoad(t *testing.T) {
	l := newLAN(t)
	l.bring(t)
	l.pod(t, func() {
		_, err := Load([]Group{both})
		var present *PresentError
		require.ErrorAs(t, err, &present)
		require.Equal(t, PresentError{aa(nettest.SourceV4), "macvlan0"}, *present)
		require.ErrorContains(t, err, "EGRESS_SOURCE 198.51.100.50 is on macvlan0 already, and no fence was there before it, so that two pods may answer for it; Multus puts it there")
		require.Empty(t, elements(t, both.Name), "nothing was loaded")
		l.address(t, netlink.AddrDel)

		f := one(t, both, false)
		hold(t, f, time.Minute)
		l.address(t, netlink.AddrAdd)
		require.ErrorIs(t, f.Close(), ErrPresent)
		f = one(t, both, false)
		left, err := f.Held()
		require.NoError(t, err)
		require.NotZero(t, left)

		// Under another name, and with an address less: the address that is there and is
		// no source any more stays fenced.
		four := Group{"four", both.Addrs[:1]}
		one(t, four, false)
		require.NotEmpty(t, elements(t, both.Name), "the old fence stays, it is needed for an address")
		l.address(t, netlink.AddrDel)
		f = one(t, four, false)
		require.Empty(t, elements(t, both.Name), "it is not needed any more")
		require.NoError(t, f.Close())
		require.Empty(t, elements(t, four.Name))
	})
}

// The group of the settings loses an address that is there.
func TestLoadLess(t *testing.T) {
	l := newLAN(t)
	l.pod(t, func() {
		one(t, both, false)
		l.address(t, netlink.AddrAdd)
		one(t, Group{both.Name, both.Addrs[:1]}, false)
		require.Contains(t, elements(t, both.Name), "5 fenced6 2001:db8:1::50")
		l.address(t, netlink.AddrDel)
		one(t, Group{both.Name, both.Addrs[:1]}, false)
		require.NotContains(t, elements(t, both.Name), "5 fenced6 2001:db8:1::50")
	})
}

// An interface that comes later is covered before it gets an address.
func TestCover(t *testing.T) {
	l := newLAN(t)
	l.pod(t, func() {
		f := one(t, both, false)
		require.NoError(t, f.Cover())
		announce := func() error {
			c := raw(t, "net9", unix.ETH_P_ARP)
			_, err := c.WriteTo(arpFrame(2, l.mac, nettest.SourceV4, nettest.SourceV4), &packet.Addr{HardwareAddr: broadcast})
			return err
		}
		for range 2 { // it goes, and comes back under its name
			at := netlink.NewLinkAttrs()
			at.Name = "net9"
			v := netlink.NewVeth(at)
			v.PeerName = "peer9"
			require.NoError(t, netlink.LinkAdd(v))
			require.NoError(t, netlink.LinkSetUp(link(t, "net9")))
			require.NoError(t, netlink.LinkSetUp(link(t, "peer9")))
			require.NoError(t, f.Cover())
			require.ErrorIs(t, announce(), unix.ENOBUFS)
			hold(t, f, time.Minute)
			require.NoError(t, announce())
			require.NoError(t, f.LetGo())
			require.NoError(t, netlink.LinkDel(link(t, "net9")))
			d, err := f.Damage()
			require.NoError(t, err)
			require.Zero(t, d, "its chain went with it")
			require.NoError(t, f.Cover())
		}
	})
}

// Whoever flushes the rules takes the attempts with them: a commit does not pass.
func TestTablesGone(t *testing.T) {
	l := newLAN(t)
	l.pod(t, func() {
		f := one(t, both, false)
		n := nonce()
		require.NoError(t, f.Prepare(n, time.Minute))
		conn, err := nftables.New()
		require.NoError(t, err)
		conn.FlushRuleset()
		require.NoError(t, conn.Flush())
		require.ErrorIs(t, f.Commit(n, time.Minute, false), ErrRefused)
		require.ErrorIs(t, f.LetGo(), unix.ENOENT)
		d, err := f.Restore()
		require.NoError(t, err)
		require.Equal(t, Damage{"table arp", true}, d)
		d, err = f.Restore()
		require.NoError(t, err)
		require.Zero(t, d)
		hold(t, f, time.Minute)
	})
}
