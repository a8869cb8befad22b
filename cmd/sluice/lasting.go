package main

import (
	"sync/atomic"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// lasting is what tenants have of which something stays while generations come and go: the counts of shadow
// rules, the health of parents. A nil V is none.
type lasting[V keeper[V]] struct {
	inForce atomic.Pointer[[]ofTenant[V]]
	next    []ofTenant[V] // of the set that was made last, which may never be in force
}

// keeper takes over from what was there before what stays.
type keeper[V any] interface {
	comparable
	Keep(before V)
}

type ofTenant[V any] struct {
	tenant string
	it     V
}

// take takes what the tenants of s have, each with what stays of the one in force.
func (x *lasting[V]) take(s *policy.Set, of func(*policy.Tenant) V) {
	var none V
	before := map[string]V{}
	for _, b := range x.all() {
		before[b.tenant] = b.it
	}
	x.next = nil
	add := func(t *policy.Tenant) {
		it := of(t)
		if it == none {
			return
		}
		if was := before[t.Name]; was != none {
			it.Keep(was)
		}
		x.next = append(x.next, ofTenant[V]{t.Name, it})
	}
	add(&s.Rest)
	for i := range s.Tenants {
		add(&s.Tenants[i].Tenant)
	}
}

// commit is called when what was made last is in force.
func (x *lasting[V]) commit() {
	next := x.next
	x.inForce.Store(&next)
}

func (x *lasting[V]) all() []ofTenant[V] {
	if all := x.inForce.Load(); all != nil {
		return *all
	}
	return nil
}
