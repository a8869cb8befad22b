package directory

import (
	"net/netip"
	"slices"
	"sync"
)

// maxLabels bounds a pod's labels, so that no pod makes a message that cannot be read.
const maxLabels = 64 << 10

// Index finds out who has which address, from the pods that live. Its methods may be
// called concurrently.
type Index struct {
	mu   sync.Mutex
	pods map[string]*holder
	one  map[netip.Addr]*holder
	more map[netip.Addr][]*holder // addresses of several living pods: nobody's
	subs map[*subscription]struct{}
}

// holder is a living pod with its addresses.
type holder struct {
	pod   *Pod
	addrs []netip.Addr
}

// NewIndex returns an index without pods.
func NewIndex() *Index {
	return &Index{
		pods: make(map[string]*holder),
		one:  make(map[netip.Addr]*holder),
		more: make(map[netip.Addr][]*holder),
		subs: make(map[*subscription]struct{}),
	}
}

// Put says that a pod lives and has these addresses, and no others any more. Pods are told
// apart by their UID. It reports whether the pod could be taken: one whose labels have more
// than 64 KiB, or that has no UID, has no address here.
func (x *Index) Put(p Pod, addrs []netip.Addr) bool {
	ok := p.UID != "" && len(p.Labels) <= maxLabels
	if !ok {
		addrs = nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.pods[p.UID]
	addrs = canonical(addrs)
	if h != nil && *h.pod == p && slices.Equal(h.addrs, addrs) {
		return ok
	}
	if h == nil {
		if len(addrs) == 0 {
			return ok
		}
		h = &holder{}
		x.pods[p.UID] = h
	}
	shared := p.Interned()
	before := h.addrs
	renamed := h.pod == nil || *h.pod != p
	h.pod, h.addrs = &shared, addrs
	for _, a := range before {
		if !slices.Contains(addrs, a) {
			x.release(a, h)
		}
	}
	for _, a := range addrs {
		switch held := slices.Contains(before, a); {
		case !held:
			x.take(a, h)
		case renamed && x.one[a] == h:
			x.tell(a, h.pod)
		}
	}
	if len(addrs) == 0 {
		delete(x.pods, p.UID)
	}
	return ok
}

// Remove says that a pod lives no more, or never had an address of its own.
func (x *Index) Remove(uid string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.pods[uid]
	if h == nil {
		return
	}
	delete(x.pods, uid)
	for _, a := range h.addrs {
		x.release(a, h)
	}
}

// Lookup is the pod that has an address.
func (x *Index) Lookup(addr netip.Addr) (Pod, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if h := x.one[addr.Unmap().WithZone("")]; h != nil {
		return *h.pod, true
	}
	return Pod{}, false
}

// Counts are the living pods with an address, and the addresses that several of them claim.
func (x *Index) Counts() (pods, disputed int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.pods), len(x.more)
}

func canonical(addrs []netip.Addr) []netip.Addr {
	var all []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap().WithZone(""); a.IsValid() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

func (x *Index) take(a netip.Addr, h *holder) {
	if rivals := x.more[a]; rivals != nil {
		x.more[a] = append(rivals, h)
		return
	}
	if other := x.one[a]; other != nil {
		delete(x.one, a)
		x.more[a] = []*holder{other, h}
		x.tell(a, nil)
		return
	}
	x.one[a] = h
	x.tell(a, h.pod)
}

func (x *Index) release(a netip.Addr, h *holder) {
	if x.one[a] == h {
		delete(x.one, a)
		x.tell(a, nil)
		return
	}
	left := slices.DeleteFunc(x.more[a], func(other *holder) bool { return other == h })
	if len(left) > 1 {
		x.more[a] = left
		return
	}
	delete(x.more, a)
	if len(left) == 1 {
		x.one[a] = left[0]
		x.tell(a, left[0].pod)
	}
}

// change says who has an address from now on; nil: nobody, as far as is known.
type change struct {
	addr netip.Addr
	pod  *Pod
}

// maxBehind bounds the changes that wait for a reader. One that is further behind begins
// anew, with a snapshot.
const maxBehind = 1 << 17

// subscription is the changes for one reader, which wait here until it takes them.
type subscription struct {
	mu      sync.Mutex
	waiting []change
	behind  bool          // too many: what waits is not all
	more    chan struct{} // of one: something waits
}

// subscribe returns who has which address now, a pod's addresses in succession, and what
// changes from now on.
func (x *Index) subscribe() ([]change, *subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := make([]change, 0, len(x.one))
	for _, h := range x.pods {
		for _, a := range h.addrs {
			if x.one[a] == h {
				now = append(now, change{a, h.pod})
			}
		}
	}
	s := &subscription{more: make(chan struct{}, 1)}
	x.subs[s] = struct{}{}
	return now, s
}

func (x *Index) unsubscribe(s *subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.subs, s)
}

func (x *Index) tell(a netip.Addr, p *Pod) {
	for s := range x.subs {
		s.add(change{a, p})
	}
}

func (s *subscription) add(c change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= maxBehind {
		s.behind = true
	} else {
		s.waiting = append(s.waiting, c)
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// take is what waits, and false when that is not all.
func (s *subscription) take() ([]change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.waiting
	s.waiting = nil
	return taken, !s.behind
}
