package metrics

import "github.com/prometheus/client_golang/prometheus"

// NewSources registers which source addresses a proxy with a holder may use, with reg. each is
// asked at each scrape, concurrently.
func NewSources(reg prometheus.Registerer, each func(yield func(source string, held bool))) {
	reg.MustRegister(sources{each, prometheus.NewDesc("sluice_source_held",
		"1 while this replica may connect from the source address; 0 while another does, or nobody, or it is fenced.", []string{"source"}, nil)})
}

type sources struct {
	each func(func(string, bool))
	held *prometheus.Desc
}

// Describe says which metric there is.
func (s sources) Describe(to chan<- *prometheus.Desc) { to <- s.held }

// Collect says what it is now.
func (s sources) Collect(to chan<- prometheus.Metric) {
	number := map[bool]float64{true: 1}
	s.each(func(source string, held bool) {
		to <- prometheus.MustNewConstMetric(s.held, prometheus.GaugeValue, number[held], source)
	})
}
