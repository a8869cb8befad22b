package metrics

import (
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// policyInfo collects what the policy in force is called.
type policyInfo struct {
	name func() (generation uint64, hash string)
	desc *prometheus.Desc
}

// NewPolicy registers with reg what the policy in force is called, how long it is until the next
// of its rules expires; false: none does; and how many of its assertions an expiry has broken. The functions may be called concurrently.
func NewPolicy(reg prometheus.Registerer, name func() (generation uint64, hash string), left func() (time.Duration, bool), broken func() int) {
	reg.MustRegister(&policyInfo{name, prometheus.NewDesc("sluice_policy_info",
		"1: what the policy in force is called, by its generation in this process and the first digits of its hash.", []string{"generation", "policy"}, nil)})
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_policy_next_expiry_seconds",
		Help: "Seconds until the next rule expires (#@ expires=); +Inf: none will."}, func() float64 {
		if d, any := left(); any {
			return d.Seconds()
		}
		return math.Inf(1)
	})
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_policy_broken_assertions",
		Help: "Assertions (#@ assert) of the rules that do not hold any more since a rule has expired."}, func() float64 { return float64(broken()) })
}

// Describe is prometheus.Collector's.
func (p *policyInfo) Describe(to chan<- *prometheus.Desc) { to <- p.desc }

// Collect is prometheus.Collector's.
func (p *policyInfo) Collect(to chan<- prometheus.Metric) {
	generation, hash := p.name()
	to <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue, 1, strconv.FormatUint(generation, 10), hash)
}
