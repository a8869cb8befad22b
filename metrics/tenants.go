package metrics

import "github.com/prometheus/client_golang/prometheus"

// Tenant is what was counted of one tenant.
type Tenant struct {
	Name                      string
	Open                      int64 // requests and tunnels under way
	Allowed, Denied           int64 // requests
	OverConnections, OverRate int64 // requests refused by a limit
	Received, Sent            int64 // bytes
}

// tenants collects what is counted elsewhere, where a request has its tenant at hand.
type tenants struct {
	each func(f func(Tenant))

	open, requests, limited, received, sent *prometheus.Desc
}

// NewTenants registers the metrics of tenants with reg. each calls f for every tenant; it may
// be called concurrently.
func NewTenants(reg prometheus.Registerer, each func(f func(Tenant))) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"tenant"}, labels...), nil)
	}
	reg.MustRegister(&tenants{
		each:     each,
		open:     desc("sluice_tenant_open", "Requests and tunnels of the tenant that are under way."),
		requests: desc("sluice_tenant_requests_total", "Requests and tunnels of the tenant, counted at their end.", "verdict"),
		limited:  desc("sluice_tenant_limited_total", "Requests of the tenant that were refused by one of its limits.", "limit"),
		received: desc("sluice_tenant_client_received_bytes_total", "Bytes of bodies and tunnels received from the tenant's clients."),
		sent:     desc("sluice_tenant_client_sent_bytes_total", "Bytes of answers and tunnels sent to the tenant's clients."),
	})
}

// Describe is prometheus.Collector's.
func (t *tenants) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.open, t.requests, t.limited, t.received, t.sent} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (t *tenants) Collect(to chan<- prometheus.Metric) {
	t.each(func(x Tenant) {
		count := func(d *prometheus.Desc, n int64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append([]string{x.Name}, labels...)...)
		}
		to <- prometheus.MustNewConstMetric(t.open, prometheus.GaugeValue, float64(x.Open), x.Name)
		count(t.requests, x.Allowed, "allow")
		count(t.requests, x.Denied, "deny")
		count(t.limited, x.OverConnections, "connections")
		count(t.limited, x.OverRate, "requests")
		count(t.received, x.Received)
		count(t.sent, x.Sent)
	})
}
