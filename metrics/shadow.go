package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// ShadowLine is how many requests one line of shadow rules would have decided otherwise.
type ShadowLine struct {
	Tenant                string
	File                  string // where there are several
	Line                  int    // 0: no rule decides
	WouldDeny, WouldAllow uint64
}

// shadow collects what is counted elsewhere.
type shadow struct {
	each func(f func(ShadowLine))
	desc *prometheus.Desc
}

// shadowMost bounds how many lines of a scrape are told apart; the others are one.
const shadowMost = 1000

// NewShadow registers the metric of shadow rules with reg. each calls f for every line that has
// counted something, and for no line twice; it may be called concurrently.
func NewShadow(reg prometheus.Registerer, each func(f func(ShadowLine))) {
	reg.MustRegister(&shadow{each, prometheus.NewDesc("sluice_shadow_requests_total",
		"Requests that the shadow rules would have decided otherwise, by the line that would have: 0 where no rule decides, other beyond the first 1,000.",
		[]string{"tenant", "file", "line", "verdict"}, nil)})
}

// Describe is prometheus.Collector's.
func (s *shadow) Describe(to chan<- *prometheus.Desc) { to <- s.desc }

// Collect is prometheus.Collector's.
func (s *shadow) Collect(to chan<- prometheus.Metric) {
	count := func(tenant, file, line string, deny, allow uint64) {
		for verdict, n := range map[string]uint64{"would_deny": deny, "would_allow": allow} {
			if n > 0 {
				to <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(n), tenant, file, line, verdict)
			}
		}
	}
	var other ShadowLine
	n := 0
	s.each(func(l ShadowLine) {
		if n++; n > shadowMost {
			other.WouldDeny += l.WouldDeny
			other.WouldAllow += l.WouldAllow
			return
		}
		count(l.Tenant, l.File, strconv.Itoa(l.Line), l.WouldDeny, l.WouldAllow)
	})
	count("", "", "other", other.WouldDeny, other.WouldAllow)
}
