package hold

import (
	"fmt"
	"strconv"
	"strings"
)

// name stands for a string of a world, or for a nonce; no two mean the same.
//
// Of strings there are versions, which are also UIDs, the identities of processes, and some that
// are always the same. Of nonces it is the process and twice the count: see canon.place.
type name = uint16

const (
	identities = 0x400 // of the process 0; the version 0 is 0
	strangers  = 0x800 - iota
	none
	allNames = 0x800

	perProcess = 0x400 // the nonces of a process
)

func nameOf(s string) name {
	switch {
	case s == "stranger":
		return strangers
	case s == "none":
		return none
	case s[0] == 'v':
		if n, err := strconv.Atoi(s[1:]); err == nil && n < identities {
			return name(n)
		}
	default:
		if _, process, ok := strings.Cut(s, "_"); ok {
			if n, err := strconv.ParseUint(process, 16, 64); err == nil && identities+n < strangers {
				return name(identities + n)
			}
		}
	}
	panic("no name, or too many: " + s)
}

// stringOf is the string of n. Whose pod a process was of is lost: a process is of one only.
func stringOf(n name) string { return stringsOf[n] }

var stringsOf = func() (all [allNames]string) {
	for n := range all {
		all[n] = spelled(name(n))
	}
	return all
}()

func spelled(n name) string {
	switch {
	case n == strangers:
		return "stranger"
	case n == none:
		return "none"
	case n < identities:
		return versionName(int(n))
	}
	return identityOf(uint64(n - identities)).String()
}

func identityOf(process uint64) Identity { return Identity{Pod: "P", Process: process} }

func placeOf(process, twice uint64) name {
	if process >= 1<<16/perProcess || twice >= perProcess {
		panic(fmt.Sprintf("too many nonces: %d of %d", twice, process))
	}
	return name(process*perProcess + twice)
}

func processOf(n name) uint64 { return uint64(n / perProcess) }
func twiceOf(n name) uint64   { return uint64(n % perProcess) }

// numbers gives numbers to what it is asked for, in that order, and the same to the same.
type numbers struct {
	round uint64
	given []uint64 // the round, and the number
	next  uint64
}

func newNumbers(most int) numbers { return numbers{given: make([]uint64, most)} }

// begin forgets all.
func (n *numbers) begin() { n.round, n.next = n.round+1<<8, 0 }

func (n *numbers) of(x name) byte {
	if g := n.given[x]; g&^0xff == n.round {
		return byte(g)
	}
	g := n.next
	n.next++
	n.given[x] = n.round | g
	return byte(g)
}
