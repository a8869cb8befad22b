package resolve

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

const (
	// mostDescriptors is how many a resolver has, whatever is asked: taken out of the
	// budget when it begins, so that it can always ask, and that nobody who waits for a
	// name takes one from the others. A process with few gets a part of them.
	mostDescriptors  = 64
	leastDescriptors = 16
	budgetPart       = 8 // one in eight
	tcpPart          = 4 // of its own one in four is for TCP
)

// takeDescriptors takes a resolver's descriptors out of b, and returns how many.
func takeDescriptors(b *fdbudget.Budget) (int, error) {
	n := mostDescriptors
	if b != nil {
		n = int(min(max(b.Left()/budgetPart, leastDescriptors), mostDescriptors))
	}
	if !b.Take(int64(n)) {
		return 0, errFewDescriptors
	}
	return n, nil
}

var errFewDescriptors = errors.New("the limit of open files leaves no descriptors for DNS; raise it (ulimit -n, LimitNOFILE)")

// sockets are the UDP sockets that questions leave from. As long as there is room,
// each question has one of its own, so a source port of its own (RFC 5452 section 9.2).
// When all are taken, questions share: the port is then one that the kernel drew for
// another question within the time of a look-up, and which of them is drawn anew; the ID
// and the case of the name (0x20) are the question's own as ever. A socket is shared for
// that time and no longer, so that nobody can pin ports by names that are not answered.
type sockets struct {
	r    *Resolver
	life time.Duration // how long a socket takes questions: that of a look-up

	mu    sync.Mutex
	slots []slot
}

// slot has two sockets at most: one that takes questions, and the one before it, whose
// questions were all put before this one was opened. When this one's time is over, so
// are the look-ups that those were for: the socket before it can be closed without loss.
type slot struct{ now, before *socket }

// socket is connected to one server: the kernel drops what others send, and tells of a
// port that is shut.
type socket struct {
	set  *sockets
	slot *slot
	s    *server
	conn udpConn
	born time.Time

	// Under sockets.mu: the questions that wait, by ID. Mostly there is one.
	first *question
	more  map[uint16]*question
}

// put sends q by a socket for its server. The error says that it could not be sent.
func (x *sockets) put(q *question) error {
	k, err := x.place(q)
	if err != nil {
		return err
	}
	buf := buffers.Get().(*[readSize]byte)
	defer buffers.Put(buf)
	b, err := q.pack(buf, q.id)
	if err == nil {
		err = k.conn.write(b)
	}
	if err == nil || !x.drop(q) {
		return nil // or the socket's reader has told what happened
	}
	if errors.Is(err, syscall.ECONNREFUSED) { // the kernel's answer to a question before
		k.fail(err)
	}
	return err
}

// place has a socket for q's server wait for its answer.
func (x *sockets) place(q *question) (*socket, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k, err := x.pick(q.s)
	if err == nil {
		q.k, q.id = k, k.freeID()
		k.add(q)
	}
	return k, err
}

// pick is a socket to s: a new one where there is room, else one of those there are.
func (x *sockets) pick(s *server) (*socket, error) {
	own := (len(x.slots) - s.index%len(x.slots) + s.of - 1) / s.of // slots of this server
	at := func(i int) *slot { return &x.slots[s.index%len(x.slots)+i*s.of] }
	for i := range own {
		if at(i).now == nil {
			return x.open(at(i), s)
		}
	}
	l := at(mrand.IntN(own))
	if l.now.s == s && time.Since(l.now.born) < x.life {
		return l.now, nil
	}
	l.before.close()
	l.before, l.now = l.now, nil
	return x.open(l, s)
}

func (x *sockets) open(l *slot, s *server) (*socket, error) {
	conn, err := dialUDP(s.addr)
	if err != nil {
		return nil, err
	}
	k := &socket{set: x, slot: l, s: s, conn: conn, born: time.Now()}
	l.now = k
	x.r.running.Go(k.read)
	return k, nil
}

// freeID draws an ID that no other question of the socket has.
func (k *socket) freeID() uint16 {
	var b [2]byte
	for {
		_, _ = rand.Read(b[:])
		if id := binary.BigEndian.Uint16(b[:]); k.find(id) == nil {
			return id
		}
	}
}

func (k *socket) find(id uint16) *question {
	if k.first != nil && k.first.id == id {
		return k.first
	}
	return k.more[id]
}

func (k *socket) add(q *question) {
	if k.first == nil {
		k.first = q
		return
	}
	if k.more == nil {
		k.more = map[uint16]*question{}
	}
	k.more[q.id] = q
}

// drop takes q out of its socket, which is closed when it was the last one. It reports
// whether q was still waiting there.
func (x *sockets) drop(q *question) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := q.k
	if k == nil || k.find(q.id) != q {
		return false
	}
	if k.first == q {
		k.first = nil
	} else {
		delete(k.more, q.id)
	}
	if k.first == nil && len(k.more) == 0 {
		k.close()
	}
	return true
}

// close closes k, which may be nil. What still waits there hears nothing more: to those
// who asked, it is silence. sockets.mu is held.
func (k *socket) close() {
	if k == nil {
		return
	}
	k.conn.close()
	switch k {
	case k.slot.now:
		k.slot.now = nil
	case k.slot.before:
		k.slot.before = nil
	}
	k.first, k.more = nil, nil
}

// read hands out what comes in until the socket is closed.
func (k *socket) read() {
	buf := buffers.Get().(*[readSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := k.conn.read(buf[:])
		if err != nil {
			k.fail(err)
			return
		}
		k.take(buf[:n])
	}
}

// fail tells all who wait that the socket is of no use.
func (k *socket) fail(err error) {
	for _, q := range k.dismiss() {
		q.to.put(reply{q: q, err: err})
	}
}

// dismiss closes k, and returns what has waited there.
func (k *socket) dismiss() []*question {
	k.set.mu.Lock()
	defer k.set.mu.Unlock()
	all := slices.Collect(maps.Values(k.more))
	if k.first != nil {
		all = append(all, k.first)
	}
	k.close()
	return all
}

// meant is the question whose ID a datagram has, or nil.
func (k *socket) meant(b []byte) *question {
	if len(b) < 2 {
		return nil
	}
	k.set.mu.Lock()
	defer k.set.mu.Unlock()
	return k.find(binary.BigEndian.Uint16(b))
}

// take hands a datagram to the question that it answers. What comes from the right
// address but is not an answer is ignored, since the true one may still come.
func (k *socket) take(b []byte) {
	q := k.meant(b)
	if q == nil {
		k.set.r.observe(Event{QueryMismatch, k.s.addr, "udp", time.Since(k.born)})
		return
	}
	m, err := match(q.id, q.asked, b, q.check())
	switch {
	case errors.Is(err, errMismatch):
		k.set.r.observe(Event{QueryMismatch, k.s.addr, "udp", time.Since(q.begin)})
	case errors.Is(err, errFolded):
		// A server that does not keep the case, or somebody who guesses: see pair.take.
		k.set.r.observe(Event{QueryMismatch, k.s.addr, "udp", time.Since(q.begin)})
		q.to.put(reply{q: q, err: err})
	case k.set.drop(q):
		q.to.put(reply{q: q, m: m, err: err})
	}
}

// count counts the sockets.
func (x *sockets) count() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.slots {
		if l.now != nil {
			n++
		}
		if l.before != nil {
			n++
		}
	}
	return n
}
