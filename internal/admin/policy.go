package admin

import (
	"encoding/json"
	"net/http"
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

// ServePolicy has GET /api/policy answer with what policy says, which is called concurrently. It is
// called once, before Serve.
func (h *Handler) ServePolicy(policy func() Policy) {
	h.mux.HandleFunc("GET /api/policy", func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.MarshalIndent(policy(), "", "  ")
		if err != nil { // no value of it can't be said
			text(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(append(b, '\n'))
	})
}
