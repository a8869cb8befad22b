package proxy

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/sluiceproxy/sluice/acl"
)

// targets remembers how authorities were read: clients ask for the same few hosts
// again and again, and one that is known costs neither a parse nor an allocation. A
// newcomer takes the place of whoever has its slot. The zero value is ready for use;
// read may be called concurrently.
type targets struct {
	slots [512]atomic.Pointer[knownTarget]
}

type knownTarget struct {
	authority string
	port      uint16
	target    acl.Target
}

// targetSeed keeps clients from choosing authorities that share a slot.
var targetSeed = maphash.MakeSeed()

// read parses an authority; port is that of the scheme, 0 when the authority must
// name one. The error is a *targetError.
func (ts *targets) read(authority []byte, port uint16) (t acl.Target, err error) {
	slot := &ts.slots[maphash.Bytes(targetSeed, authority)%uint64(len(ts.slots))]
	if k := slot.Load(); k != nil && k.port == port && k.authority == string(authority) {
		return k.target, nil
	}
	s := string(authority)
	if port == 0 {
		t, err = acl.ParseTarget(s)
	} else {
		t, err = acl.ParseTargetDefault(s, port)
	}
	if err != nil {
		return acl.Target{}, &targetError{err}
	}
	slot.Store(&knownTarget{s, port, t})
	return t, nil
}

// targetError is an authority that names no host and port.
type targetError struct{ error }
