package admin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+path, nil))
	return w
}

func TestHandler(t *testing.T) {
	status := func() Status {
		return Status{Version: "v1", Started: time.Unix(0, 0), Listen: []string{":8080"}, Source: "192.0.2.1",
			Rules: []Rule{{"<a>", 3, "!<b>.example.com"}, {"<a>", 4, "c"}, {"d", 1, "*"}}, Origin: "rules.txt", Problem: "rules.txt:1: no"}
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
	assert.Contains(t, body, "<pre>&lt;a&gt;:\n   3  !&lt;b&gt;.example.com\n   4  c\nd:\n   1  *\n</pre>")
	assert.Contains(t, body, "rules.txt:1: no")
	assert.NotContains(t, body, "Learning")
	assert.Contains(t, get(New(prometheus.NewRegistry(), func() Status { return Status{Learning: true} }, false), "/").Body.String(), "Learning: what no rule denies is allowed")
	assert.NotContains(t, body, "Inspected")
	body = get(New(prometheus.NewRegistry(), func() Status {
		return Status{Inspected: []Inspected{{Host: "a.test", Rules: []string{"GET /<a>", "*"}, Headers: []string{"Authorization"}, Opened: true}, {Tenant: "ci", Host: "b.test", Passed: true}, {Host: "c.test"}}}
	}, false), "/").Body.String()
	assert.Contains(t, body, "<td>a.test</td><td><pre>GET /&lt;a&gt;\n*</pre></td><td>Authorization</td><td>opened</td>")
	assert.Contains(t, body, "<td>b.test of ci</td><td><pre></pre></td><td></td><td>passed through</td>")
	assert.Contains(t, body, "<td>c.test</td><td><pre>no request is allowed</pre></td><td></td><td>denied: there is no CA</td>")
	assert.NotContains(t, body, "Parents")
	body = get(New(prometheus.NewRegistry(), func() Status {
		return Status{Parents: []Parents{{For: "*.a.test", Via: []string{"http://<p>:1: up", "direct"}}, {Tenant: "ci", For: "every destination", Via: []string{"http://q:1: up"}, ByName: true}}}
	}, false), "/").Body.String()
	assert.Contains(t, body, "<td>*.a.test</td><td><pre>http://&lt;p&gt;:1: up\ndirect</pre></td><td>address</td>")
	assert.Contains(t, body, "<td>every destination of ci</td><td><pre>http://q:1: up</pre></td><td>name: no address is judged</td>")
	assert.Equal(t, 404, get(h, "/other").Code)
	assert.Equal(t, 404, get(h, "/debug/pprof/").Code)
	assert.Equal(t, 200, get(New(prometheus.NewRegistry(), status, true), "/debug/pprof/").Code)
}

// What go tool pprof and go tool trace fetch is there, and one recording at a time.
func TestProfiles(t *testing.T) {
	h := New(prometheus.NewRegistry(), func() Status { return Status{} }, true)
	index := get(h, "/debug/pprof/").Body.String()
	for _, name := range []string{"heap?debug=1", "goroutine?debug=1", "profile?seconds=", "trace?seconds="} {
		assert.Contains(t, index, "/debug/pprof/"+name)
	}
	assert.Contains(t, get(h, "/debug/pprof/goroutine?debug=1").Body.String(), "TestProfiles")
	gzipped := "\x1f\x8b" // as profiles in protobuf are
	for _, path := range []string{"allocs", "profile?seconds=0.01"} {
		res := get(h, "/debug/pprof/"+path)
		assert.Equal(t, 200, res.Code)
		assert.Equal(t, "application/octet-stream", res.Header().Get("Content-Type"))
		assert.True(t, strings.HasPrefix(res.Body.String(), gzipped), path)
	}
	assert.True(t, strings.HasPrefix(get(h, "/debug/pprof/trace?seconds=0.01").Body.String(), "go 1."))
	res := get(h, "/debug/pprof/nothing")
	assert.Equal(t, 404, res.Code)
	assert.Equal(t, "there is no profile of that name: see /debug/pprof/\n", res.Body.String())

	require.NoError(t, pprof.StartCPUProfile(io.Discard))
	defer pprof.StopCPUProfile()
	res = get(h, "/debug/pprof/profile")
	assert.Equal(t, 409, res.Code)
	assert.Equal(t, "another one is being recorded: cpu profiling already in use\n", res.Body.String())
}
