package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// NewDirectory registers with reg how the directory of pods fares; the functions may be called
// concurrently.
func NewDirectory(reg prometheus.Registerer, age, addresses func() float64) {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_directory_age_seconds",
		Help: "How long ago what is known of pods was last known to be so; -1: nothing was heard yet."}, age)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_directory_addresses",
		Help: "Addresses of pods in the last known state."}, addresses)
}
