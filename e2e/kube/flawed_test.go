//go:build linux

package kube

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/e2e/internal/stepped"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// freezeAt freezes a replica when its sluice-netsetup is at the n-th of those calls, waits for that,
// and returns what has sluice-netsetup go on. The rest stays frozen, and so says nothing against it.
func (r *replica) freezeAt(t *testing.T, n int, which func(stepped.Call) bool) (thaw func()) {
	t.Helper()
	at, goOn := make(chan struct{}), make(chan struct{})
	r.netsetup.steps.At(n, which, func(stepped.Call) <-chan struct{} {
		r.signal(syscall.SIGSTOP)
		close(at)
		return goOn
	})
	select {
	case <-at:
	case <-time.After(30 * time.Second):
		t.Fatal("it has not come to that")
	}
	return func() {
		close(goOn)
		r.netsetup.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// freezes are ways to have a holder act when another has the address: it is frozen, and goes on then.
var freezes = []struct {
	name   string
	freeze func(t *testing.T, holder *replica) (thaw func())
}{
	{"at an announcement", func(t *testing.T, r *replica) func() {
		held := netip.MustParseAddr(nettest.HeldV4).AsSlice()
		return r.freezeAt(t, 1, func(c stepped.Call) bool {
			return c.To == "packet" && len(c.Data) >= 42 && string(c.Data[12:14]) == "\x08\x06" && string(c.Data[28:32]) == string(held)
		})
	}},
	{"at a commit", func(t *testing.T, r *replica) func() {
		return r.freezeAt(t, 1, func(c stepped.Call) bool {
			return c.String() == "sendmsg netlink" && strings.Contains(string(c.Data), "held4")
		})
	}},
	{"anywhere", func(_ *testing.T, r *replica) func() {
		r.signal(syscall.SIGSTOP)
		return func() { r.signal(syscall.SIGCONT) }
	}},
}

// A holder that goes on late makes two use the address, when sluice-netsetup has one flaw; that is
// found on the wire, or by what the kernels were told. With the one that ships it finds nothing. Nobody looks for a duplicate
// here, which would find a holder without a fence as well: what is seen is the fence.
//
// Source: failover.md, "Shown, not said", 3.
func TestFlawsAreFound(t *testing.T) {
	use(t)
	for _, c := range []struct {
		name    string
		patches []program.Patch
		found   string // of freezes; "": by none
	}{
		{"as it ships", nil, ""},
		{"a bare add", []program.Patch{
			{File: "netsetup/fence/fence_linux.go", Old: "		t.del(t.pending(), nonce[:])\n", New: ""},
			{File: "netsetup/fence/fence_linux.go", Old: "if renewing {", New: "if false {"},
		}, "at a commit"},
		{"the output hook alone", []program.Patch{
			{File: "netsetup/fence/load_linux.go", Old: "return load(groups, false)", New: "return load(groups, true)"},
		}, "at an announcement"},
		{"no fence", []program.Patch{
			{File: "netsetup/fence/rules.go", Old: "expr.VerdictDrop", New: "expr.VerdictAccept"},
		}, "at an announcement"}, // or anywhere else
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := setup{stepped: true, blind: true}
			if c.patches != nil {
				s.netsetup = program.Patched(t, "sluice-netsetup", c.patches...)
			}
			f := s.failover(t, nettest.NewReplicas(t, 2), quick...)
			f.awaitHolder(nil)
			f.askForHeld()
			found := false
			for _, w := range freezes {
				o := observe(t, f.Gateway)
				was := f.awaitHolder(nil)
				nettest.Eventually(t, "the other waits for its turn, and both addresses were seen", func() bool {
					return f.standsBy(was) && len(o.of(nettest.HeldV4)) > 0 && len(o.of(nettest.HeldV6)) > 0
				})
				thaw := w.freeze(t, was)
				f.awaitHolder(was)
				time.Sleep(500 * time.Millisecond) // in which both would answer
				thaw()
				time.Sleep(500 * time.Millisecond) // in which what is late is done
				// With a bare add the other's renewals are grants to the observer as well.
				said := o.overlap(f.grants()) + both(f.grants())
				if c.found == "" {
					require.Empty(t, said, w.name)
				}
				if said != "" {
					t.Logf("frozen %s:\n%s", w.name, said)
					assert.Equal(t, c.found, w.name)
					found = true
					break
				}
				was.again()
			}
			assert.Equal(t, c.found != "", found)
		})
	}
}
