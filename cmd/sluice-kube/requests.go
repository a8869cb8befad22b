package main

import (
	"net/http"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/sluiceproxy/sluice/metrics"
)

// counted has m count each request by way of c: what was asked for, and what the answer's code
// was.
func counted(c *rest.Config, m *metrics.Hold) {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(r)
			code := "none"
			if err == nil {
				code = strconv.Itoa(res.StatusCode)
			}
			m.Requested(verbOf(r), resourceOf(r.URL.Path), code)
			return res, err
		})
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// verbOf is what roles call a request.
func verbOf(r *http.Request) string {
	switch {
	case r.Method == http.MethodPost:
		return "create"
	case r.Method == http.MethodPut:
		return "update"
	case r.URL.Query().Has("watch"):
		return "watch"
	}
	return strings.ToLower(r.Method)
}

// resourceOf is what is asked about: what stands behind namespaces/NAME in the path.
func resourceOf(path string) string {
	_, rest, _ := strings.Cut(path, "/namespaces/")
	parts := strings.Split(rest, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}
