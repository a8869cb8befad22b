package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Held is how a group of addresses fares, as one replica knows it.
type Held struct {
	Group   string
	Mode    string
	Holding bool          // the kernel lets it out, as far as is known
	Ours    bool          // the last write of the Lease is ours
	AckAge  time.Duration // since that was acknowledged; 0 unless Ours
}

// Hold holds the metrics of sluice-kube hold. Its methods may be called concurrently.
type Hold struct {
	reached  prometheus.Gauge
	notes    *prometheus.CounterVec
	requests *prometheus.CounterVec
}

// NewHold registers the metrics with reg. now is asked at each scrape, concurrently.
func NewHold(reg prometheus.Registerer, now func() []Held) *Hold {
	f := promauto.With(reg)
	reg.MustRegister(held{now,
		prometheus.NewDesc("sluice_hold_holding", "1 while this replica's kernel lets the addresses of the group out.", []string{"group"}, nil),
		prometheus.NewDesc("sluice_hold_lease_owner", "1 while the last write of the group's Lease is this replica's.", []string{"group"}, nil),
		prometheus.NewDesc("sluice_hold_ack_age_seconds", "Since the API server last acknowledged a write of the group's Lease; 0 for who does not own it.", []string{"group"}, nil),
	})
	return &Hold{
		reached: f.NewGauge(prometheus.GaugeOpts{Name: "sluice_hold_netsetup_reached",
			Help: "1 while sluice-netsetup hold is connected: without it nothing can be held."}),
		notes: f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_hold_events_total",
			Help: "What has happened to a group: took, fenced, lifted, lost, late, duplicate and others."}, []string{"group", "event"}),
		requests: f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_hold_api_requests_total",
			Help: "Requests to the API server, by what was asked for and the answer's code; none: there was no answer in time."}, []string{"verb", "resource", "code"}),
	}
}

// Reached says whether sluice-netsetup hold is connected; it is not at first.
func (h *Hold) Reached(yes bool) {
	if yes {
		h.reached.Set(1)
		return
	}
	h.reached.Set(0)
}

// Happened counts an event of a group.
func (h *Hold) Happened(group, event string) { h.notes.WithLabelValues(group, event).Inc() }

// Requested counts a request, by the words of roles; its code is "none" when there was no answer.
func (h *Hold) Requested(verb, resource, code string) {
	h.requests.WithLabelValues(verb, resource, code).Inc()
}

// held collects what the groups are at the moment.
type held struct {
	now                 func() []Held
	holding, owner, age *prometheus.Desc
}

// Describe says which metrics there are.
func (h held) Describe(to chan<- *prometheus.Desc) {
	to <- h.holding
	to <- h.owner
	to <- h.age
}

// Collect says what they are now.
func (h held) Collect(to chan<- prometheus.Metric) {
	one := func(d *prometheus.Desc, v float64, group string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, group)
	}
	number := map[bool]float64{true: 1}
	for _, g := range h.now() {
		one(h.holding, number[g.Holding], g.Group)
		one(h.owner, number[g.Ours], g.Group)
		one(h.age, g.AckAge.Seconds(), g.Group)
	}
}
