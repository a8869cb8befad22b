package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// TCP holds the metrics of "sluice tcp". Its labels are what the operator
// configured, a listener's port and a destination: nothing that a client chooses.
// What leaves the configuration leaves the metrics too, when its last connection
// has ended. Methods may be called concurrently.
type TCP struct {
	listenerUp  *prometheus.GaugeVec
	clients     *prometheus.GaugeVec
	accepted    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	up          *prometheus.GaugeVec
	sessions    *prometheus.GaugeVec
	total       *prometheus.CounterVec
	received    *prometheus.CounterVec
	sent        *prometheus.CounterVec
	connects    *prometheus.HistogramVec
	errors      *prometheus.CounterVec
	addresses   *prometheus.GaugeVec
	resolved    *prometheus.GaugeVec
	checks      *prometheus.CounterVec
	checkTime   *prometheus.GaugeVec
	mu          sync.Mutex
	listenerUse map[string]*TCPListener
	destUse     map[[2]string]*TCPDestination
}

// TCPRefusal is why a client was refused.
type TCPRefusal uint8

const (
	TCPLimit     TCPRefusal = iota // too many connections, or no descriptor left
	TCPHeader                      // no PROXY header, or a wrong one
	TCPName                        // no TLS server name that leads anywhere
	TCPNoAddress                   // the name has no address, or none that may be used
	TCPConnect                     // no address answered
	numTCPRefusals
)

var tcpRefusalNames = [numTCPRefusals]string{"limit", "proxy_header", "server_name", "no_address", "connect"}

func (r TCPRefusal) String() string { return tcpRefusalNames[r] }

// TCPConnectError is the class of a failed connection to a destination.
type TCPConnectError uint8

const (
	TCPOther TCPConnectError = iota
	TCPRefused
	TCPTimeout
	TCPUnroutable
	TCPLocal // no descriptor or no port left here
	TCPDenied
	numTCPConnectErrors
)

var tcpConnectErrorNames = [numTCPConnectErrors]string{"other", "refused", "timeout", "unroutable", "local", "denied"}

func (e TCPConnectError) String() string { return tcpConnectErrorNames[e] }

// tcpStates are the values of label state.
var tcpStates = []string{"up", "down", "draining"}

// NewTCP registers the metrics with reg.
func NewTCP(reg prometheus.Registerer) *TCP {
	f := promauto.With(reg)
	l, d := []string{"listener"}, []string{"listener", "destination"}
	with := func(labels []string, more string) []string { return append(append([]string(nil), labels...), more) }
	gauge := func(name, help string, labels []string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &TCP{
		listenerUp: gauge("sluice_tcp_listener_up", "1 when connections to this port have somewhere to go.", l),
		clients:    gauge("sluice_tcp_clients", "Open client connections.", l),
		accepted:   counter("sluice_tcp_accepted_total", "Client connections accepted.", l),
		refused:    counter("sluice_tcp_refused_total", "Client connections reset before any byte went through, by cause.", with(l, "cause")),
		up:         gauge("sluice_tcp_up", "1 when at least one address of the destination is in use.", d),
		sessions:   gauge("sluice_tcp_sessions", "Open connections to the destination.", d),
		total:      counter("sluice_tcp_sessions_total", "Connections made to the destination for clients.", d),
		received:   counter("sluice_tcp_received_bytes_total", "Bytes from clients to the destination.", d),
		sent:       counter("sluice_tcp_sent_bytes_total", "Bytes from the destination to clients.", d),
		connects: f.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_tcp_connect_duration_seconds",
			Help: "Time that a connection to the destination took to be made.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}, d),
		errors:    counter("sluice_tcp_connect_errors_total", "Attempts to connect to the destination that failed, by class.", with(d, "class")),
		addresses: gauge("sluice_tcp_addresses", "Addresses of the destination, by state.", with(d, "state")),
		resolved:  gauge("sluice_tcp_resolved", "1 when the last look-up of the destination's name succeeded.", d),
		checks:    counter("sluice_tcp_checks_total", "Health checks of the destination's addresses, by result.", with(d, "result")),
		checkTime: gauge("sluice_tcp_check_duration_seconds", "Time that the last health check took.", d),

		listenerUse: map[string]*TCPListener{},
		destUse:     map[[2]string]*TCPDestination{},
	}
}

// TCPListener counts for one port.
type TCPListener struct {
	t       *TCP
	name    string
	uses    int // under t.mu
	up      prometheus.Gauge
	Clients prometheus.Gauge
	accept  prometheus.Counter
	refused [numTCPRefusals]prometheus.Counter
}

// Listener returns the metrics of a port. The caller releases them.
func (t *TCP) Listener(name string) *TCPListener {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.listenerUse[name]
	if l == nil {
		l = &TCPListener{t: t, name: name, up: t.listenerUp.WithLabelValues(name),
			Clients: t.clients.WithLabelValues(name), accept: t.accepted.WithLabelValues(name)}
		for r := range numTCPRefusals {
			l.refused[r] = t.refused.WithLabelValues(name, tcpRefusalNames[r])
		}
		t.listenerUse[name] = l
	}
	l.uses++
	return l
}

// Release gives the metrics back; the last release makes them disappear.
func (l *TCPListener) Release() {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	if l.uses--; l.uses > 0 {
		return
	}
	delete(l.t.listenerUse, l.name)
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{l.t.listenerUp, l.t.clients, l.t.accepted, l.t.refused} {
		v.DeletePartialMatch(prometheus.Labels{"listener": l.name})
	}
}

// Accepted counts a client.
func (l *TCPListener) Accepted() { l.accept.Inc() }

// Refused counts a client that was refused.
func (l *TCPListener) Refused(r TCPRefusal) { l.refused[r].Inc() }

// SetUp says whether connections have somewhere to go.
func (l *TCPListener) SetUp(up bool) { setBool(l.up, up) }

// TCPDestination counts for one destination of one port.
type TCPDestination struct {
	t          *TCP
	key        [2]string
	uses       int // under t.mu
	up         prometheus.Gauge
	sessions   prometheus.Gauge
	total      prometheus.Counter
	in, out    prometheus.Counter
	connect    prometheus.Observer
	errors     [numTCPConnectErrors]prometheus.Counter
	states     []prometheus.Gauge
	resolved   prometheus.Gauge
	checks     [2]prometheus.Counter
	checkTaken prometheus.Gauge
}

// Destination returns the metrics of a destination. The caller releases them.
func (t *TCP) Destination(listener, destination string) *TCPDestination {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := [2]string{listener, destination}
	d := t.destUse[key]
	if d == nil {
		d = &TCPDestination{t: t, key: key,
			up: t.up.WithLabelValues(key[:]...), sessions: t.sessions.WithLabelValues(key[:]...),
			total: t.total.WithLabelValues(key[:]...), in: t.received.WithLabelValues(key[:]...),
			out: t.sent.WithLabelValues(key[:]...), connect: t.connects.WithLabelValues(key[:]...),
			resolved:   t.resolved.WithLabelValues(key[:]...),
			checkTaken: t.checkTime.WithLabelValues(key[:]...),
		}
		for e := range numTCPConnectErrors {
			d.errors[e] = t.errors.WithLabelValues(listener, destination, tcpConnectErrorNames[e])
		}
		for _, s := range tcpStates {
			d.states = append(d.states, t.addresses.WithLabelValues(listener, destination, s))
		}
		d.checks = [2]prometheus.Counter{t.checks.WithLabelValues(listener, destination, "failure"), t.checks.WithLabelValues(listener, destination, "success")}
		t.destUse[key] = d
	}
	d.uses++
	return d
}

// Release gives the metrics back; the last release makes them disappear.
func (d *TCPDestination) Release() {
	t := d.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.uses--; d.uses > 0 {
		return
	}
	delete(t.destUse, d.key)
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{t.up, t.sessions, t.total, t.received, t.sent, t.connects, t.errors, t.addresses, t.resolved, t.checks, t.checkTime} {
		v.DeletePartialMatch(prometheus.Labels{"listener": d.key[0], "destination": d.key[1]})
	}
}

// Connected counts a connection that was made for a client, and took so long.
func (d *TCPDestination) Connected(took time.Duration) {
	d.total.Inc()
	d.sessions.Inc()
	d.connect.Observe(took.Seconds())
}

// Ended counts the end of a connection.
func (d *TCPDestination) Ended() { d.sessions.Dec() }

// Moved counts bytes received from a client and sent to it.
func (d *TCPDestination) Moved(received, sent int64) {
	d.in.Add(float64(received))
	d.out.Add(float64(sent))
}

// ConnectFailed counts an attempt.
func (d *TCPDestination) ConnectFailed(e TCPConnectError) { d.errors[e].Inc() }

// SetAddresses says how many addresses there are.
func (d *TCPDestination) SetAddresses(up, down, draining int) {
	for i, n := range []int{up, down, draining} {
		d.states[i].Set(float64(n))
	}
	setBool(d.up, up > 0)
}

// SetResolved says how the last look-up went.
func (d *TCPDestination) SetResolved(ok bool) { setBool(d.resolved, ok) }

// Checked counts a health check.
func (d *TCPDestination) Checked(ok bool, took time.Duration) {
	i := 0
	if ok {
		i = 1
	}
	d.checks[i].Inc()
	d.checkTaken.Set(took.Seconds())
}

func setBool(g prometheus.Gauge, v bool) {
	if v {
		g.Set(1)
	} else {
		g.Set(0)
	}
}
