// Package metrics declares every metric of Sluice, in one struct. The table in
// README.md beside this file lists them all; a test keeps the two in step.
//
// Labels are bounded: mode, verdict, reason class, error class. Never a host, an
// address or anything else that a client chooses. What a request touches is
// resolved here, at start: counting takes no look-up, no lock and no allocation.
package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sluiceproxy/sluice/acl"
)

// Mode is how a request reached the proxy.
type Mode uint8

const (
	Forward   Mode = iota // a request in absolute form
	Connect               // CONNECT
	Inspected             // out of a tunnel that was opened
	SOCKS                 // CONNECT by SOCKS 5
	numModes
)

var modeNames = [numModes]string{"forward", "connect", "inspected", "socks5"}

func (m Mode) String() string { return modeNames[m] }

// Reason is the class of what gave a request's verdict.
type Reason uint8

const (
	ReasonDefault Reason = iota // no rule matched
	ReasonRule
	ReasonGuard
	ReasonRequest  // a request rule, or that none matched
	ReasonUnjudged // refused before it was judged: malformed, over a limit …
	numReasons
)

var reasonNames = [numReasons]string{"default", "rule", "guard", "request", "unjudged"}

// ReasonOf returns the class of a decision's reason.
func ReasonOf(d acl.Decision) Reason {
	switch d.Kind {
	case acl.ReasonRule:
		return ReasonRule
	case acl.ReasonGuard:
		return ReasonGuard
	}
	return ReasonDefault
}

// Metrics holds every metric. Its methods may be called concurrently.
type Metrics struct {
	requests   [numModes][2][numReasons]prometheus.Counter
	durations  [numModes]prometheus.Observer
	received   [numModes]prometheus.Counter
	sent       [numModes]prometheus.Counter
	errors     *prometheus.CounterVec
	refused    [numRefusals]prometheus.Counter
	shed       [2]prometheus.Counter
	checks     [numChecks]prometheus.Counter
	ech        prometheus.Counter
	DNS        DNS
	Clients    prometheus.Gauge // open client connections
	Tunnels    prometheus.Gauge // open tunnels
	LogDropped prometheus.Counter
	// MessagesDropped counts lines lost of what goes to standard error.
	MessagesDropped prometheus.Counter
	// Panics counts faults of the program that ended one connection.
	Panics prometheus.Counter
	// HandshakeFailed counts clients with whom no TLS connection came about.
	HandshakeFailed prometheus.Counter
	// HandshakeWaited counts those that had to wait, since the client had begun many.
	HandshakeWaited prometheus.Counter

	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
	reloads    [2]prometheus.Counter
	rules      prometheus.Gauge
}

// DNS counts what the resolver did.
type DNS struct {
	queries *prometheus.CounterVec
	lookups *prometheus.CounterVec
	seconds prometheus.Observer
}

// Check is what came of the look at what a client sent first through a tunnel.
type Check uint8

const (
	Unchecked Check = iota // it was not looked at
	CheckPassed
	CheckOtherName     // a server name that may not be asked for there
	CheckNoName        // no server name
	CheckOtherProtocol // not the protocol that is wanted
	CheckTooLong
	CheckTooSlow
	numChecks
)

var checkNames = [numChecks]string{"", "pass", "server_name", "no_server_name", "protocol", "too_long", "too_slow"}

// String is the value of the label; "" for Unchecked.
func (c Check) String() string { return checkNames[c] }

// Refusal is a limit that a client ran into.
type Refusal uint8

const (
	TooManyConnections Refusal = iota // in all
	TooManyFromClient                 // from one client
	numRefusals
)

var refusalNames = [numRefusals]string{"connections", "client_connections"}

// New registers the metrics with reg.
func New(reg prometheus.Registerer, version string) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		errors: f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_errors_total",
			Help: "Requests that ended in an answer of the proxy's own or were cut off, by RFC 9209 error class."}, []string{"class"}),
		Clients: f.NewGauge(prometheus.GaugeOpts{Name: "sluice_client_connections", Help: "Open client connections."}),
		Tunnels: f.NewGauge(prometheus.GaugeOpts{Name: "sluice_tunnels", Help: "Open tunnels, by CONNECT or Upgrade."}),
		LogDropped: f.NewCounter(prometheus.CounterOpts{Name: "sluice_access_log_dropped_total",
			Help: "Access-log lines dropped because the log could not be written, or not as fast as requests came."}),
		MessagesDropped: f.NewCounter(prometheus.CounterOpts{Name: "sluice_messages_dropped_total",
			Help: "Lines for standard error dropped because it was not read as fast as they came, or could not be written."}),
		Panics: f.NewCounter(prometheus.CounterOpts{Name: "sluice_panics_total",
			Help: "Faults of the program, each of which has ended one connection. The log has the stack: please report it."}),
		HandshakeFailed: f.NewCounter(prometheus.CounterOpts{Name: "sluice_tls_handshakes_failed_total",
			Help: "Clients of --listen-tls with whom no TLS connection came about."}),
		HandshakeWaited: f.NewCounter(prometheus.CounterOpts{Name: "sluice_tls_handshakes_waited_total",
			Help: "TLS handshakes with clients that had to wait, since the client had begun many."}),
		reloadOK: f.NewGauge(prometheus.GaugeOpts{Name: "sluice_config_last_reload_successful",
			Help: "1 when the last reload put a new configuration in force, 0 when it was refused."}),
		reloadTime: f.NewGauge(prometheus.GaugeOpts{Name: "sluice_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded."}),
		rules: f.NewGauge(prometheus.GaugeOpts{Name: "sluice_rules", Help: "Rules in force."}),
	}
	m.registerRequests(f)
	m.DNS = DNS{
		queries: f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_dns_queries_total",
			Help: "Queries sent to DNS servers, by outcome."}, []string{"outcome"}),
		lookups: f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_dns_lookups_total",
			Help: "Names asked of the resolver, by where the answer came from."}, []string{"source"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{Name: "sluice_dns_query_duration_seconds",
			Help: "Time that a DNS server took to answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 3, 9)}),
	}
	build := f.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_build_info",
		Help: "Always 1; the labels say what runs."}, []string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	return m
}

func (m *Metrics) registerRequests(f promauto.Factory) {
	requests := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_requests_total",
		Help: "Requests and tunnels, counted at their end."}, []string{"mode", "verdict", "reason"})
	durations := f.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_request_duration_seconds",
		Help:    "Time from the first byte of a request to the last of its answer; for a tunnel, until it was set up.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"mode"})
	received := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_client_received_bytes_total",
		Help: "Bytes of bodies and tunnels received from clients."}, []string{"mode"})
	sent := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_client_sent_bytes_total",
		Help: "Bytes of answers and tunnels sent to clients."}, []string{"mode"})
	for mode := range numModes {
		name := modeNames[mode]
		for verdict, v := range []string{"deny", "allow"} {
			for reason := range numReasons {
				m.requests[mode][verdict][reason] = requests.WithLabelValues(name, v, reasonNames[reason])
			}
		}
		m.durations[mode] = durations.WithLabelValues(name)
		m.received[mode], m.sent[mode] = received.WithLabelValues(name), sent.WithLabelValues(name)
	}
	shed := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_shed_connections_total",
		Help: "Client connections closed because places or memory ran short, by what they were: without a whole request head, or idle."}, []string{"state"})
	m.shed = [2]prometheus.Counter{shed.WithLabelValues("idle"), shed.WithLabelValues("headless")}
	refused := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_refused_connections_total",
		Help: "Client connections refused because a limit was reached."}, []string{"limit"})
	for r := range numRefusals {
		m.refused[r] = refused.WithLabelValues(refusalNames[r])
	}
	checks := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_tunnel_checks_total",
		Help: "Tunnels whose first bytes from the client were looked at, by what came of it."}, []string{"result"})
	for c := CheckPassed; c < numChecks; c++ {
		m.checks[c] = checks.WithLabelValues(c.String())
	}
	m.ech = f.NewCounter(prometheus.CounterOpts{Name: "sluice_tunnel_ech_total",
		Help: "Of these, ClientHellos that may hold another one, encrypted (ECH); some browsers pretend so in each."})
	reloads := f.NewCounterVec(prometheus.CounterOpts{Name: "sluice_config_reloads_total",
		Help: "Reloads since the start, by result."}, []string{"result"})
	m.reloads = [2]prometheus.Counter{reloads.WithLabelValues("failure"), reloads.WithLabelValues("success")}
}

// Moved counts bytes received from a client and sent to it, of what has not ended yet.
func (m *Metrics) Moved(mode Mode, received, sent int64) {
	m.received[mode].Add(float64(received))
	m.sent[mode].Add(float64(sent))
}

// Ended counts a request or tunnel that has ended, and the bytes that Moved was not told of;
// class is its RFC 9209 error, "" for none.
func (m *Metrics) Ended(mode Mode, allowed bool, reason Reason, class string, received, sent int64, took time.Duration) {
	verdict := 0
	if allowed {
		verdict = 1
	}
	m.requests[mode][verdict][reason].Inc()
	m.Moved(mode, received, sent)
	m.durations[mode].Observe(took.Seconds())
	if class != "" {
		m.errors.WithLabelValues(class).Inc()
	}
}

// Shed counts a connection that had to give way: one without a whole request head, or an idle
// one.
func (m *Metrics) Shed(headless bool) {
	if headless {
		m.shed[1].Inc()
		return
	}
	m.shed[0].Inc()
}

// Checked counts a tunnel whose first bytes were looked at; ech: another ClientHello may be in
// there, encrypted.
func (m *Metrics) Checked(c Check, ech bool) {
	m.checks[c].Inc()
	if ech {
		m.ech.Inc()
	}
}

// Refused counts a connection that ran into a limit.
func (m *Metrics) Refused(r Refusal) { m.refused[r].Inc() }

// Reloaded records a reload and, when it succeeded, how many rules it put in
// force. The configuration loaded at start counts as one.
func (m *Metrics) Reloaded(ok bool, rules int, at time.Time) {
	if !ok {
		m.reloads[0].Inc()
		m.reloadOK.Set(0)
		return
	}
	m.reloads[1].Inc()
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(at.Unix()))
	m.rules.Set(float64(rules))
}

// Query counts a question to a DNS server; took is observed when it answered.
func (d *DNS) Query(outcome string, answered bool, took time.Duration) {
	d.queries.WithLabelValues(outcome).Inc()
	if answered {
		d.seconds.Observe(took.Seconds())
	}
}

// Lookup counts a name asked of the resolver.
func (d *DNS) Lookup(source string) { d.lookups.WithLabelValues(source).Inc() }
