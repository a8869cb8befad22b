package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/netsetup"
	"github.com/sluiceproxy/sluice/netsetup/fence"
)

// Options of a [Holder].
type Options struct {
	// Config is what is set up besides the addresses. Its Hold is set.
	Config netsetup.Config
	// Groups are the addresses that are held together; each is a source of Config's, and in
	// one group. None: all sources are one group.
	Groups [][]netip.Addr
	// ReplyFrom are hosts that answer an echo request, at most one for a family, by which
	// a holder sees that replies come back; of a family without one, the gateways are.
	ReplyFrom []netip.Addr
	// SkipReply leaves that out: replies are taken to come back.
	SkipReply bool
	// Tell is told what happens unasked. It is called concurrently, and does not wait.
	Tell func(holding.Event)
	// Trace, if not nil, is called before each change of what is set up besides.
	Trace   func(netsetup.Change)
	Version string // of the program
	Log     *slog.Logger
}

// Holder holds groups of addresses. Its methods may be called concurrently.
type Holder struct {
	o      Options
	alone  net.Listener // nil: that could not be told
	fences []*fence.Fence
	groups []*group
	ended  atomic.Bool

	setup  sync.Mutex // one of those that change routes at a time
	kernel *netsetup.Kernel

	stop    context.CancelFunc
	running sync.WaitGroup // whatever was started
	unguard func()
}

// Open loads the fences, and sets up what is needed besides the addresses. An address that
// is there already is a [*fence.PresentError]; what an earlier process has held goes on
// being held. One process of a network namespace has a Holder at a time. Who opens a Holder
// closes it; after an error nothing is left of it, but for the fence of an address that is there.
func Open(ctx context.Context, o Options) (*Holder, error) {
	o.Config.Hold = true
	if len(o.Groups) == 0 {
		var all []netip.Addr
		for _, s := range o.Config.Sources {
			all = append(all, s.Addr())
		}
		o.Groups = [][]netip.Addr{all}
	}
	h := &Holder{o: o, stop: func() {}, unguard: func() {}}
	if err := h.open(ctx); err != nil {
		return nil, errors.Join(err, h.abandon())
	}
	return h, nil
}

func (h *Holder) open(ctx context.Context) (err error) {
	if h.alone, err = alone(); err != nil {
		return err
	}
	if h.alone == nil {
		h.o.Log.Warn("another user's process has the socket "+aloneName+": it cannot be told whether another sluice-netsetup hold runs here", "uid", "not "+strconv.Itoa(os.Getuid()))
	}
	var fenced []fence.Group
	for _, addrs := range h.o.Groups {
		fenced = append(fenced, fence.Group{Name: holding.GroupName(addrs), Addrs: addrs})
	}
	if h.fences, err = fence.Load(fenced); err != nil {
		return err
	}
	if h.kernel, err = netsetup.OpenKernel(); err != nil {
		return err
	}
	h.kernel.Trace = h.o.Trace
	plan, err := h.kernel.Setup(ctx, h.o.Config)
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		h.o.Log.Warn(w)
	}
	if err := h.makeGroups(fenced, plan); err != nil {
		return err
	}
	ctx, h.stop = context.WithCancel(context.Background())
	if err := h.followLinks(ctx); err != nil {
		return err
	}
	for _, g := range h.groups {
		g.adopt()
	}
	h.unguard = h.guard()
	return nil
}

func (h *Holder) makeGroups(fenced []fence.Group, plan *netsetup.Plan) error {
	for i, f := range h.fences {
		if f.Weak {
			h.o.Log.Warn("this kernel has no egress hook for interfaces: what is not held is fenced for the kernel's own traffic and for what is forwarded, but not for raw frames, nor for what waits for a neighbour's address", "group", fenced[i].Name)
		}
		g := &group{h: h, name: fenced[i].Name, fence: f}
		for _, a := range fenced[i].Addrs {
			i := slices.IndexFunc(h.o.Config.Sources, func(s netsetup.Source) bool { return s.Addr() == a })
			if i < 0 {
				return fmt.Errorf("%s of group %s is no source", a, g.name)
			}
			s := h.o.Config.Sources[i]
			g.members = append(g.members, member{s.Addr(), s.Gateway, plan.Announce[i].Link})
		}
		h.groups = append(h.groups, g)
	}
	return nil
}

// abandon leaves nothing of what could not be opened, but for fences that an address needs.
func (h *Holder) abandon() error {
	h.stop()
	h.running.Wait()
	var errs []error
	for _, f := range h.fences {
		if err := f.Close(); err != nil && !errors.Is(err, fence.ErrPresent) {
			errs = append(errs, err)
		}
	}
	h.release()
	return errors.Join(errs...)
}

// release closes what is open, but for fences.
func (h *Holder) release() {
	if h.kernel != nil {
		h.kernel.Close()
	}
	if h.alone != nil {
		h.alone.Close()
	}
}

// Close lets all groups go, and takes the fences away. When an address cannot be taken
// away its fence stays, and the error says so.
func (h *Holder) Close() error {
	h.unguard() // nobody puts up again what is taken away here
	var errs []error
	for _, g := range h.groups {
		errs = append(errs, g.letGo())
		if err := g.fence.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	h.stop()
	h.running.Wait()
	h.release()
	return errors.Join(errs...)
}

// group finds a group by its name.
func (h *Holder) group(name string) (*group, error) {
	i := slices.IndexFunc(h.groups, func(g *group) bool { return g.name == name })
	if i < 0 {
		var names []string
		for _, g := range h.groups {
			names = append(names, g.name)
		}
		return nil, fmt.Errorf("there is no group %q, but %s: both programs want the same EGRESS_SOURCE and EGRESS_POOL", name, strings.Join(names, ", "))
	}
	return h.groups[i], nil
}

// routes puts right what the kernel took away with an address. That it could not is no
// reason to hold, or not to.
func (h *Holder) routes() {
	h.setup.Lock()
	defer h.setup.Unlock()
	if _, err := h.kernel.Setup(context.Background(), h.o.Config); err != nil {
		h.o.Log.Error("the routes could not be put right", "error", err)
	}
}

// Status is what is held, and how things are.
func (h *Holder) Status() (holding.Status, error) {
	s := holding.Status{Version: h.o.Version}
	for _, g := range h.groups {
		left, err := g.fence.Held()
		if err != nil {
			return s, err
		}
		present, err := g.present()
		if err != nil {
			return s, err
		}
		state := holding.Group{Name: g.name, Held: holding.Millis(left), Present: present, Up: g.up()}
		for _, m := range g.members {
			state.Addrs = append(state.Addrs, m.addr)
		}
		s.Groups = append(s.Groups, state)
		s.Weak = s.Weak || g.fence.Weak
	}
	return s, nil
}

// Prepare begins an attempt: see [fence.Fence.Prepare].
func (h *Holder) Prepare(name string, n holding.Nonce, p time.Duration) error {
	g, err := h.group(name)
	if err != nil {
		return err
	}
	return g.prepare(fence.Nonce(n), p)
}

// Commit brings the addresses of a group, and holds them for v: see [fence.Fence.Commit].
// The error is [holding.ErrRefused] when the kernel has refused.
func (h *Holder) Commit(name string, n holding.Nonce, v time.Duration, renewing bool) error {
	g, err := h.group(name)
	if err != nil {
		return err
	}
	return g.commit(fence.Nonce(n), v, renewing)
}

// LetGo fences a group, ends its attempts, and takes its addresses away.
func (h *Holder) LetGo(name string) error {
	g, err := h.group(name)
	if err != nil {
		return err
	}
	return g.letGo()
}

// Ended says that the proxy has ended.
func (h *Holder) Ended() { h.ended.Store(true) }

// HasEnded reports whether Ended was called.
func (h *Holder) HasEnded() bool { return h.ended.Load() }

// Idle reports whether nothing is held.
func (h *Holder) Idle() bool {
	for _, g := range h.groups {
		g.mu.Lock()
		held := g.tenure != nil
		g.mu.Unlock()
		if held {
			return false
		}
	}
	return true
}
