package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
	"time"
)

// A digest stands for a credential: without the key of the process nobody can make one, nor
// try passwords against one.
type digest [16]byte

// digests makes digests, without an allocation where one was made before.
type digests struct {
	pool sync.Pool
}

type hasher struct {
	mac hash.Hash
	d   decoder
	sum [sha256.Size]byte
	tag [17]byte
}

func newDigests() *digests {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return &digests{sync.Pool{New: func() any { return &hasher{mac: hmac.New(sha256.New, key)} }}}
}

// of is the digest of a credential: of a password together with users, and of a token alone,
// however it was shown: with the user's name in it, whoever has one good token could have it
// reviewed under any number of names.
func (ds *digests) of(users *Users, c Credential) digest {
	h := ds.pool.Get().(*hasher)
	defer ds.pool.Put(h)
	h.mac.Reset()
	switch c.kind {
	case Password:
		h.start('p', users)
		h.mac.Write(c.text()) // strict base64: no two texts are one password
	case Token:
		h.start('t', nil)
		h.mac.Write(c.text())
	case PasswordToken:
		h.start('t', nil)
		h.d = decoder{text: c.text()}
		for skip := c.pass; h.d.next(); {
			piece := h.d.piece()
			n := min(skip, len(piece))
			skip -= n
			h.mac.Write(piece[n:])
		}
	}
	return h.end()
}

// name is the digest of a user's name.
func (ds *digests) name(name []byte) digest {
	h := ds.pool.Get().(*hasher)
	defer ds.pool.Put(h)
	h.mac.Reset()
	h.start('n', nil)
	h.mac.Write(name)
	return h.end()
}

func (h *hasher) start(kind byte, users *Users) {
	h.tag = [17]byte{kind}
	if users != nil {
		copy(h.tag[1:], users.sum[:])
	}
	h.mac.Write(h.tag[:])
}

func (h *hasher) end() (d digest) {
	copy(d[:], h.mac.Sum(h.sum[:0]))
	return d
}

const shards = 16

// A memory is verdicts by digest, bounded in number. Those that have expired stay until
// their room is wanted.
type memory struct {
	shards [shards]struct {
		mu sync.Mutex
		m  map[digest]remembered
	}
	limit int // for each shard
}

type remembered struct {
	verdict Verdict
	until   int64 // Unix nanoseconds
}

func newMemory(limit int) *memory {
	m := &memory{limit: max(1, limit/shards)}
	for i := range m.shards {
		m.shards[i].m = map[digest]remembered{}
	}
	return m
}

func (m *memory) get(d digest, now time.Time) (v Verdict, fresh, stale bool) {
	s := &m.shards[d[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.m[d]
	fresh = ok && now.UnixNano() < r.until
	return r.verdict, fresh, ok && !fresh
}

// sampled is how many entries a full shard looks at to make room for one.
const sampled = 8

func (m *memory) put(d digest, v Verdict, until time.Time) {
	s := &m.shards[d[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.m[d]; !ok && len(s.m) >= m.limit {
		var first digest
		n := 0
		for k, r := range s.m { // in an order of the map's own
			if n == 0 || r.until < s.m[first].until {
				first = k
			}
			if n++; n == sampled {
				break
			}
		}
		delete(s.m, first)
	}
	s.m[d] = remembered{v, until.UnixNano()}
}

func (m *memory) drop(d digest) {
	s := &m.shards[d[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, d)
}

func (m *memory) len() (n int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}
