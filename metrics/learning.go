package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// NewLearning registers with reg whether what no rule decides is allowed. learns may be called
// concurrently.
func NewLearning(reg prometheus.Registerer, learns func() bool) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_learning",
		Help: "1 while what no rule decides is allowed, and recorded (--learn); else 0."}, func() float64 {
		if learns() {
			return 1
		}
		return 0
	})
}
