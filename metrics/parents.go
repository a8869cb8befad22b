package metrics

import "github.com/prometheus/client_golang/prometheus"

// Parent is what was counted of one parent proxy of one tenant.
type Parent struct {
	Tenant, URL string
	Up          bool
	Outcomes    map[string]uint64 // what came of going by it
}

// parents collects what is counted elsewhere, where a connection has its parent at hand.
type parents struct {
	each func(f func(Parent))

	up, connections *prometheus.Desc
}

// NewParents registers the metrics of parent proxies with reg. each calls f for every parent of
// every tenant, once; it may be called concurrently.
func NewParents(reg prometheus.Registerer, each func(f func(Parent))) {
	reg.MustRegister(&parents{
		each: each,
		up: prometheus.NewDesc("sluice_parent_up", "1 while nothing is known against the parent proxy, 0 when it is left alone since it could not be reached.",
			[]string{"tenant", "parent"}, nil),
		connections: prometheus.NewDesc("sluice_parent_connections_total", "Connections by a parent proxy, by what came of asking it.",
			[]string{"tenant", "parent", "outcome"}, nil),
	})
}

// Describe is prometheus.Collector's.
func (p *parents) Describe(to chan<- *prometheus.Desc) {
	to <- p.up
	to <- p.connections
}

// Collect is prometheus.Collector's.
func (p *parents) Collect(to chan<- prometheus.Metric) {
	p.each(func(x Parent) {
		up := 0.0
		if x.Up {
			up = 1
		}
		to <- prometheus.MustNewConstMetric(p.up, prometheus.GaugeValue, up, x.Tenant, x.URL)
		for outcome, n := range x.Outcomes {
			to <- prometheus.MustNewConstMetric(p.connections, prometheus.CounterValue, float64(n), x.Tenant, x.URL, outcome)
		}
	})
}
