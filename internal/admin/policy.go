package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Policy is what is in force and judged by, for GET /api/policy.
type Policy struct {
	Generation uint64    `json:"generation"` // 1, 2, … of this process
	Hash       string    `json:"hash"`       // 64 hex digits: the same wherever the same is judged by
	Origin     string    `json:"origin"`     // where the rules come from
	Rules      int       `json:"rules"`      // those of tenants among them
	Loaded     time.Time `json:"loaded"`
	// Expires is when the next rule does; nil: none will.
	Expires *time.Time `json:"next_expiry,omitempty"`
	Problem string     `json:"problem,omitempty"` // why the last reload was refused
}

// ServeExplain has GET /api/explain?target=TARGET answer with what explain says of the query, as JSON; an
// error is the client's, who is told. explain is called concurrently. It is called once, before Serve.
func (h *Handler) ServeExplain(explain func(url.Values) (any, error)) {
	h.mux.HandleFunc("GET /api/explain", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if !q.Has("target") {
			text(w, http.StatusBadRequest, "say what is to be explained: /api/explain?target=HOST:PORT")
			return
		}
		answer, err := explain(q)
		if err != nil {
			text(w, http.StatusBadRequest, err.Error())
			return
		}
		writeJSON(w, answer)
	})
}

// ServePolicy has GET /api/policy answer with what policy says, which is called concurrently. It is
// called once, before Serve.
func (h *Handler) ServePolicy(policy func() Policy) {
	h.mux.HandleFunc("GET /api/policy", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, policy())
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // no value of ours can't be said
		text(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(b, '\n'))
}
