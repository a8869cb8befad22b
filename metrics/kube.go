package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Directory is how the directory of sluice-kube fares.
type Directory struct {
	Pods     int           // with an address
	Disputed int           // addresses of several living pods
	Readers  int           // connected
	Age      time.Duration // how long ago all was known
	Synced   bool          // it ever was
}

// Kube holds the metrics of sluice-kube. Its methods may be called concurrently.
type Kube struct {
	reviews [3]prometheus.Counter
}

// NewKube registers the metrics with reg. now is asked at each scrape, concurrently.
func NewKube(reg prometheus.Registerer, version string, now func() Directory) *Kube {
	f := promauto.With(reg)
	gauge := func(name, help string, value func(Directory) float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(now()) })
	}
	gauge("sluice_kube_pods", "Living pods with an address of their own.", func(d Directory) float64 { return float64(d.Pods) })
	gauge("sluice_kube_disputed_addresses", "Addresses that several living pods have: they are nobody's.", func(d Directory) float64 { return float64(d.Disputed) })
	gauge("sluice_kube_readers", "Programs that read the directory.", func(d Directory) float64 { return float64(d.Readers) })
	gauge("sluice_kube_age_seconds", "How long ago the API server was last known to tell of every change.", func(d Directory) float64 { return d.Age.Seconds() })
	gauge("sluice_kube_synced", "1 when all pods were known once.", func(d Directory) float64 {
		if d.Synced {
			return 1
		}
		return 0
	})
	reviews := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_kube_token_reviews_total",
		Help: "Tokens asked about at the API server, by verdict."}, []string{"verdict"})
	k := &Kube{reviews: [3]prometheus.Counter{reviews.WithLabelValues("unknown"), reviews.WithLabelValues("refused"), reviews.WithLabelValues("valid")}}
	build := f.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_kube_build_info",
		Help: "Always 1; the labels say what runs."}, []string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	return k
}

// Reviewed counts a token: valid, refused, or neither when it could not be verified.
func (k *Kube) Reviewed(valid, refused bool) {
	switch {
	case valid:
		k.reviews[2].Inc()
	case refused:
		k.reviews[1].Inc()
	default:
		k.reviews[0].Inc()
	}
}
