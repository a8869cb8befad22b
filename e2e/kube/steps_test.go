//go:build linux

package kube

import (
	"encoding/binary"
	"flag"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/e2e/internal/stepped"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var every = flag.Int("every", 0, "have a program end, and freeze, at every so many of the steps of taking over and of letting go, 1: at all; 0: at one of each, another each day")

// stage is what goes on while a program is stopped at a step.
type stage struct {
	name   string
	begin  syscall.Signal // to all programs of the holder
	leaves bool           // the program is one of the holder's; else of the one that takes over
	what   string         // the program
	freeze bool           // it goes on later; else it is killed
}

func (s stage) String() string {
	how := "killed"
	if s.freeze {
		how = "frozen"
	}
	return fmt.Sprintf("%s, %s %s", s.name, s.what, how)
}

// stages are all of them: a holder that was killed has no steps any more.
func stages() (all []stage) {
	for _, freeze := range []bool{false, true} {
		for _, what := range programs {
			all = append(all, stage{"taking over from one that was killed", syscall.SIGKILL, false, what, freeze},
				stage{"taking over from one that leaves", syscall.SIGTERM, false, what, freeze},
				stage{"letting go", syscall.SIGTERM, true, what, freeze})
		}
	}
	return all
}

// least is how many steps each program has in any stage.
var least = map[string]int{"netsetup": 20, "kube": 14, "proxy": 2}

// cuts are the steps at which a program is to be stopped, for several gateways that do so.
type cuts struct {
	every, day int

	mu      sync.Mutex
	stages  []stage
	at      int            // of stages
	n       int            // the step of it that was given last
	steps   map[string]int // of stages that are known whole
	done    int
	longest time.Duration
}

// next is the next step.
func (c *cuts) next() (s stage, n int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == len(c.stages) {
		return s, 0, false
	}
	s = c.stages[c.at]
	if c.every == 0 {
		c.at++
		return s, 1 + (c.day+7*c.at)%least[s.what], true
	}
	if c.n == 0 {
		c.n = 1 + c.day%c.every - c.every
	}
	c.n += c.every
	return s, c.n, true
}

// over says that a stage was over before the program had come to the next step.
func (c *cuts) over(s stage, steps int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at < len(c.stages) && c.stages[c.at] == s {
		c.at, c.n = c.at+1, 0
	}
	c.steps[s.String()] = max(c.steps[s.String()], steps)
}

func (c *cuts) cut(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.longest = max(c.longest, took)
}

// A program ends by SIGKILL, or freezes and goes on later, at any step of taking over and of
// letting go: before each system call by which others could see an effect of it. Never do two use
// the address, and one does soon, to which the Service leads.
func TestStoppedAtEachStep(t *testing.T) {
	use(t)
	c := &cuts{every: *every, day: int(time.Now().Unix() / 86400), stages: stages(), steps: map[string]int{}}
	t.Run("gateways", func(t *testing.T) {
		for i := range gateways {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				f := setup{stepped: true}.failover(t, nettest.NewReplicas(t, 2), quick...)
				o := observe(t, f.Gateway)
				f.awaitHolder(nil)
				f.askForHeld()
				for {
					s, n, ok := c.next()
					if !ok {
						return
					}
					stop := f.killedAt
					if s.freeze {
						stop = f.frozenAt
					}
					steps, reached := stop(s, n)
					if !reached {
						c.over(s, steps)
						continue
					}
					took := f.soon(fmt.Sprintf("%s, step %d", s, n))
					o.never(t, f.grants())
					c.cut(took)
				}
			})
		}
	})
	all := 0
	for _, s := range c.stages {
		if n := c.steps[s.String()]; n > 0 {
			t.Logf("%-56s %4d steps", s, n)
			all += n
		}
	}
	if c.every == 1 {
		t.Logf("%d steps in all", all)
	}
	t.Logf("stopped at %d; served again within %v", c.done, c.longest.Round(10*time.Millisecond))
	assert.NotZero(t, c.done)
	atMost(t, 6*time.Second, c.longest)
}

// effective reports whether others could see an effect of a call: not of a question to the kernel,
// of which the fence alone has dozens a second.
func effective(c stepped.Call) bool {
	if c.To != "netlink" || len(c.Data) < unix.SizeofNlMsghdr {
		return c.To != ""
	}
	kind := binary.NativeEndian.Uint16(c.Data[4:])
	if kind>>8 == unix.NFNL_SUBSYS_NFTABLES {
		return kind&0xff%3 != unix.NFT_MSG_GETTABLE // which all that gets is, every third
	}
	return kind < unix.RTM_BASE || kind&3 != unix.RTM_GETLINK&3
}

// reach has a program stop at its n-th step of a stage, and reports whether it has come to that
// before the stage was over. do is done at the step, and its channel has it go on.
func (f *failover) reach(s stage, n int, do func(p *part) <-chan struct{}) (victim, was *replica, steps int, reached bool) {
	f.t.Helper()
	was = f.awaitHolder(nil)
	other := f.replicas[1-was.index]
	nettest.Eventually(f.t, "the other waits for its turn", func() bool { return f.standsBy(was) })
	victim = other
	if s.leaves {
		victim = was
	}
	p, at := victim.part(s.what), make(chan struct{})
	p.steps.At(n, effective, func(stepped.Call) <-chan struct{} {
		goOn := do(p)
		close(at)
		return goOn
	})
	was.signal(s.begin)
	over := func() bool {
		return len(was.running()) == 0 && f.holder() == other && f.page() == "200 "+nettest.HeldV4
	}
	ok := nettest.Within(30*time.Second, func() bool {
		select {
		case <-at:
			reached = true
			return true
		default:
			return over()
		}
	})
	require.True(f.t, ok, "%s: neither step %d nor the end is reached", s, n)
	if !reached {
		steps = p.steps.Count()
		p.steps.At(0, nil, nil)
		was.again()
	}
	return victim, was, steps, reached
}

// killedAt kills the program at the step, and reports whether it has come to that, or how many
// steps there were. Then a kubelet starts it again, but in a pod that is to
// end, which is followed by another.
func (f *failover) killedAt(s stage, n int) (int, bool) {
	victim, was, steps, reached := f.reach(s, n, func(p *part) <-chan struct{} {
		p.cmd.Process.Kill()
		return nil
	})
	if !reached {
		return steps, false
	}
	<-victim.part(s.what).done
	if victim == was {
		f.soon(fmt.Sprintf("%s, step %d, the other", s, n)) // by itself
	} else {
		victim.startOne(s.what)
	}
	if s.begin == syscall.SIGTERM && victim != was {
		was.ended()
	}
	was.again()
	return 0, true
}

// frozenAt is killedAt for one that freezes, until another pod has the address, or for a while: who
// has no proxy that serves does not know it at once.
func (f *failover) frozenAt(s stage, n int) (int, bool) {
	thaw := make(chan struct{})
	victim, was, steps, reached := f.reach(s, n, func(p *part) <-chan struct{} {
		p.cmd.Process.Signal(syscall.SIGSTOP)
		return thaw
	})
	if !reached {
		return steps, false
	}
	if victim != was {
		was.again()
	}
	nettest.Within(3*time.Second, func() bool { h := f.holder(); return h != nil && h != victim })
	close(thaw)
	victim.part(s.what).cmd.Process.Signal(syscall.SIGCONT)
	f.soon(fmt.Sprintf("%s, step %d, thawed", s, n))
	if victim == was {
		was.again()
	}
	return 0, true
}
