package main

import (
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// shadows are the shadow rules of tenants, whose counts go on while their text stays. The metrics
// and the status page show them.
type shadows struct{ lasting[*policy.Shadow] }

// share has the shadows of s go on counting where those in force are.
func (x *shadows) share(s *policy.Set) {
	x.take(s, func(t *policy.Tenant) *policy.Shadow { return t.Shadow })
}

// each is what the metrics show.
func (x *shadows) each(f func(metrics.ShadowLine)) {
	for _, s := range x.all() {
		for _, l := range s.it.Lines() {
			f(metrics.ShadowLine{Tenant: s.tenant, File: l.Source, Line: l.Line, WouldDeny: l.WouldDeny, WouldAllow: l.WouldAllow})
		}
	}
}

// show has the status page tell of them.
func (x *shadows) show(st *admin.Status) {
	for _, s := range x.all() {
		row := admin.Shadow{Tenant: s.tenant, Rules: s.it.Rules().Len()}
		for _, l := range s.it.Lines() {
			if len(row.Lines) == maxShown {
				break
			}
			row.Lines = append(row.Lines, admin.ShadowLine{Rule: admin.Rule{File: l.Source, Line: l.Line, Text: l.Text},
				WouldDeny: l.WouldDeny, WouldAllow: l.WouldAllow})
		}
		st.Shadows = append(st.Shadows, row)
	}
}
