package hold

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Identity is a process that may hold. It never comes back: a container that is started again
// has another Process, a pod of the same name another UID.
//
// Source: failover.md, "Never two holders", 4.
type Identity struct {
	Pod     string // metadata.uid
	Process uint64 // from crypto/rand, at the start of the process
}

// String is what holderIdentity says.
func (i Identity) String() string { return fmt.Sprintf("%s_%016x", i.Pod, i.Process) }

// Nonce is that of an attempt, a write or a question; no two of all replicas are equal. The
// zero Nonce is nobody's.
//
// Source: failover.md, "Never two holders", 2 and 4.
type Nonce struct {
	Process uint64 // of the Identity
	Count   uint64 // counts up from 1 within the process
}

// String is 32 hexadecimal digits.
func (n Nonce) String() string { return fmt.Sprintf("%016x%016x", n.Process, n.Count) }

// ParseNonce reads what String wrote, and reports whether it was that.
func ParseNonce(s string) (Nonce, bool) {
	if len(s) != 32 {
		return Nonce{}, false
	}
	if _, err := hex.DecodeString(s); err != nil {
		return Nonce{}, false
	}
	process, _ := strconv.ParseUint(s[:16], 16, 64)
	count, _ := strconv.ParseUint(s[16:], 16, 64)
	return Nonce{process, count}, true
}

// Lease is what a Lease says, as far as it concerns holding. The zero Lease is held by
// nobody, and is not free either.
type Lease struct {
	Missing bool   // there is none; all else is zero then
	UID     string // metadata.uid
	Version string // metadata.resourceVersion; only ever compared for being equal

	Holder    string        // spec.holderIdentity
	Nonce     Nonce         // of the holder's last write
	Bound     time.Duration // P + V as that write announced; 0: it did not
	Mark      string        // the release mark
	Leaving   bool          // the holder waits for a successor
	Successor string        // who has said that it can take over at once: an Identity
}

// Released reports whether the holder has given the Lease up, its address removed before. The
// mark belongs to this one write of this one Lease: an empty holder alone is anybody's
// writing, and a mark that was left over, or restored with another Lease, says nothing.
func (l Lease) Released() bool {
	return l.Holder == "" && l.Nonce != Nonce{} && l.Mark == mark(l.UID, l.Nonce)
}

// Written reports whether the last write has the form of a replica's: its nonce is the holder's
// process's, or nobody holds by it. What somebody else has changed in it is not told by that.
func (l Lease) Written() bool {
	if l.Holder == "" {
		return l.Nonce != Nonce{}
	}
	return strings.HasSuffix(l.Holder, fmt.Sprintf("_%016x", l.Nonce.Process))
}

func mark(uid string, n Nonce) string { return uid + "/" + n.String() }

// Annotations of a Lease. All are Sluice's own: what is "" in Annotations is to be removed.
const (
	annotationNonce     = "sluice.io/nonce"
	annotationBound     = "sluice.io/held-at-most-ms"
	annotationMark      = "sluice.io/released"
	annotationLeaving   = "sluice.io/leaving"
	annotationSuccessor = "sluice.io/successor"
)

// Annotations are what a Lease says beyond its holder; those that are "" are to be removed
// from the object.
func (l Lease) Annotations() map[string]string {
	leaving := ""
	if l.Leaving {
		leaving = "true"
	}
	return map[string]string{
		annotationNonce:     l.Nonce.String(),
		annotationBound:     strconv.FormatInt(int64((l.Bound+time.Millisecond-1)/time.Millisecond), 10),
		annotationMark:      l.Mark,
		annotationLeaving:   leaving,
		annotationSuccessor: l.Successor,
	}
}

// ParseLease is the Lease of an object's fields. What is not in the form that Annotations
// gives is taken as absent, which makes nobody's wait shorter: the Bound of what came before
// goes on to count.
func ParseLease(uid, version, holder string, annotations map[string]string) Lease {
	l := Lease{UID: uid, Version: version, Holder: holder}
	l.Nonce, _ = ParseNonce(annotations[annotationNonce])
	if ms, err := strconv.ParseUint(annotations[annotationBound], 10, 63); err == nil {
		l.Bound = time.Duration(min(ms, uint64(MaxBound/time.Millisecond))) * time.Millisecond
	}
	l.Mark = annotations[annotationMark]
	l.Leaving = annotations[annotationLeaving] == "true"
	l.Successor = annotations[annotationSuccessor]
	return l
}
