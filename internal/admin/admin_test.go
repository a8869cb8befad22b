package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
)

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestHandler(t *testing.T) {
	status := func() Status {
		return Status{Version: "v1", Started: time.Unix(0, 0), Listen: []string{":8080"}, Source: "192.0.2.1",
			Rules: []Rule{{3, "!<b>.example.com"}}, Origin: "rules.txt", Problem: "rules.txt:1: no"}
	}
	h := New(prometheus.NewRegistry(), status, false)
	assert.Equal(t, 200, get(h, "/healthz").Code)
	assert.Equal(t, 503, get(h, "/readyz").Code)
	h.Ready.Store(true)
	assert.Equal(t, 200, get(h, "/readyz").Code)
	h.Ready.Store(false)
	assert.Equal(t, "not ready\n", get(h, "/readyz").Body.String())
	assert.Equal(t, 200, get(h, "/metrics").Code)
	body := get(h, "/").Body.String()
	assert.Contains(t, body, "   3  !&lt;b&gt;.example.com")
	assert.Contains(t, body, "rules.txt:1: no")
	assert.Equal(t, 404, get(h, "/other").Code)
	assert.Equal(t, 404, get(h, "/debug/pprof/").Code)
	assert.Equal(t, 200, get(New(prometheus.NewRegistry(), status, true), "/debug/pprof/").Code)
}
