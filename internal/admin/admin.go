// Package admin serves what operators and Kubernetes ask: health, readiness,
// metrics, a status page. It has a port of its own and answers nothing on the
// proxy's.
package admin

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Status is what the status page shows. It is made anew for each view.
type Status struct {
	Version string
	Started time.Time
	Listen  []string
	Source  string
	Guard   string
	Rules   []Rule
	// Learning says that what no rule decides is allowed, and recorded.
	Learning bool
	Policy   string // what is in force is called
	Origin   string // where the rules come from
	Loaded   time.Time
	Tenants  []Tenant
	Shadows  []Shadow // shadow rules; none: there are none
	// Inspected are the hosts of which it is said what requests may do there; none: of no host.
	Inspected []Inspected
	// Parents are by which other proxies requests go; none: all go directly.
	Parents []Parents
	// Directory is how the directory of pods fares; "": there is none.
	Directory string
	Change    *Change // what the last reload of other rules has changed; nil: there was none
	Problem   string  // why the last reload was refused, "" if it was not
}

// Tenant is what the page says of a tenant.
type Tenant struct {
	Name    string
	Clients string
	Source  string
	Guard   string
	Rules   int
	Origin  string // where its rules come from
	Open    int64  // requests and tunnels under way
}

// Inspected is what the page says of an inspected host. It has no value of a credential.
type Inspected struct {
	Tenant  string   // whose; "" where there are no tenants, or for clients of none
	Host    string   // as configured
	Rules   []string // request rules; none: no request may go there
	Headers []string // names of the fields that are put in
	Opened  bool     // tunnels to it are opened; else they are passed through, or denied for want of a CA
	Passed  bool
}

// Parents is what the page says of an entry of "parents". It has no value of a credential.
type Parents struct {
	Tenant string   // whose; "" where there are no tenants, or for clients of none
	For    string   // destinations
	Via    []string // in their order, each with how it is
	ByName bool     // they resolve names
}

// Shadow is what the page says of shadow rules.
type Shadow struct {
	Tenant string // whose; "" where there are no tenants
	Rules  int
	Lines  []ShadowLine // those that would have decided something otherwise
}

// ShadowLine is how many requests a line would have decided otherwise.
type ShadowLine struct {
	Rule                  // Line 0: no rule decides
	WouldDeny, WouldAllow uint64
}

// Rule is one line of the rules in force.
type Rule struct {
	File string // that it is a line of, where there are several
	Line int
	Text string
}

// Handler serves the admin port. Ready may be set by any goroutine.
type Handler struct {
	Ready atomic.Bool
	// Details, if not nil, has the lines that /readyz?verbose shows behind the answer. It is set
	// before Serve, and called concurrently.
	Details func() []string
	mux     *http.ServeMux
	names   map[string]bool
}

// New returns a handler that is not ready. status is called for each view of the
// status page, concurrently; withPprof adds /debug/pprof. names are by what requests may
// call the port, besides addresses and localhost: names as package acl has them.
func New(reg *prometheus.Registry, status func() Status, withPprof bool, names ...string) *Handler {
	h := Plain(reg)
	for _, name := range names {
		h.names[name] = true
	}
	h.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		writePage(w, status())
	})
	if withPprof {
		profiles(h.mux)
	}
	return h
}

// Plain returns a handler without a status page, that is not ready.
func Plain(reg *prometheus.Registry) *Handler {
	h := &Handler{mux: http.NewServeMux(), names: make(map[string]bool)}
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	h.mux.HandleFunc("GET /readyz", h.readyz)
	h.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	return h
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // else the server waits for a body that may never come
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		w.Header().Set("Connection", "close")
	}
	if !h.mayAsk(r) {
		text(w, http.StatusMisdirectedRequest, fmt.Sprintf("this port is not known as %.200q: ask it by its address, or name it with --admin-host", r.Host))
		return
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) readyz(w http.ResponseWriter, r *http.Request) {
	status, lines := http.StatusOK, []string{"ready"}
	if !h.Ready.Load() {
		status, lines[0] = http.StatusServiceUnavailable, "not ready"
	}
	if r.URL.Query().Has("verbose") && h.Details != nil {
		lines = append(lines, h.Details()...)
	}
	text(w, status, strings.Join(lines, "\n"))
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(s + "\n"))
}
