package main

import (
	"sync/atomic"

	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// shadows are the shadow rules of tenants, whose counts go on while their text stays. The metrics
// and the status page show them.
type shadows struct {
	inForce atomic.Pointer[[]shadowOf]
	next    []shadowOf // of the set that was made last, which may never be in force
}

type shadowOf struct {
	tenant string
	*policy.Shadow
}

// share has the shadows of s go on counting where those in force are.
func (x *shadows) share(s *policy.Set) {
	x.next = nil
	add := func(t *policy.Tenant) {
		if t.Shadow == nil {
			return
		}
		for _, before := range x.all() {
			if before.tenant == t.Name {
				t.Shadow.Keep(before.Shadow)
			}
		}
		x.next = append(x.next, shadowOf{t.Name, t.Shadow})
	}
	add(&s.Rest)
	for i := range s.Tenants {
		add(&s.Tenants[i].Tenant)
	}
}

// commit is called when what was made last is in force.
func (x *shadows) commit() {
	next := x.next
	x.inForce.Store(&next)
}

func (x *shadows) all() []shadowOf {
	if all := x.inForce.Load(); all != nil {
		return *all
	}
	return nil
}

// each is what the metrics show.
func (x *shadows) each(f func(metrics.ShadowLine)) {
	for _, s := range x.all() {
		for _, l := range s.Lines() {
			f(metrics.ShadowLine{Tenant: s.tenant, File: l.Source, Line: l.Line, WouldDeny: l.WouldDeny, WouldAllow: l.WouldAllow})
		}
	}
}

// show has the status page tell of them.
func (x *shadows) show(st *admin.Status) {
	for _, s := range x.all() {
		row := admin.Shadow{Tenant: s.tenant, Rules: s.Rules().Len()}
		for _, l := range s.Lines() {
			if len(row.Lines) == maxShown {
				break
			}
			row.Lines = append(row.Lines, admin.ShadowLine{Rule: admin.Rule{File: l.Source, Line: l.Line, Text: l.Text},
				WouldDeny: l.WouldDeny, WouldAllow: l.WouldAllow})
		}
		st.Shadows = append(st.Shadows, row)
	}
}
