package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/sluiceproxy/sluice/metrics"
)

// Each request is counted by what it asks for, those too that are answered as is wished.
func TestRequestsAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := &rest.Config{}
	counted(c, metrics.NewHold(registry, func() []metrics.Held { return nil }))
	const leases, slices = "/apis/coordination.k8s.io/v1/namespaces/egress/leases", "/apis/discovery.k8s.io/v1/namespaces/egress/endpointslices"
	code := 0
	by := c.WrapTransport(roundTrip(func(*http.Request) (*http.Response, error) {
		if code == 0 {
			return nil, errors.New("away")
		}
		return &http.Response{StatusCode: code}, nil
	}))
	for _, r := range []struct {
		method, url string
		code        int
	}{
		{"GET", leases + "/sluice", 200},
		{"GET", leases + "/sluice", 200},
		{"GET", leases + "?fieldSelector=metadata.name%3Dsluice&watch=true", 200},
		{"POST", leases, 201},
		{"PUT", leases + "/sluice", 409},
		{"PUT", leases + "/sluice", 0},
		{"PUT", slices + "/sluice-x-ipv4", 200},
		{"GET", "/readyz", 200},
	} {
		code = r.code
		q, err := http.NewRequest(r.method, "https://api.test"+r.url, nil)
		require.NoError(t, err)
		by.RoundTrip(q)
	}
	const name = "sluice_hold_api_requests_total"
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`# HELP sluice_hold_api_requests_total Requests to the API server, by what was asked for and the answer's code; none: there was no answer in time.
# TYPE sluice_hold_api_requests_total counter
`+name+`{code="200",resource="",verb="get"} 1
`+name+`{code="200",resource="endpointslices",verb="update"} 1
`+name+`{code="200",resource="leases",verb="get"} 2
`+name+`{code="200",resource="leases",verb="watch"} 1
`+name+`{code="201",resource="leases",verb="create"} 1
`+name+`{code="409",resource="leases",verb="update"} 1
`+name+`{code="none",resource="leases",verb="update"} 1
`), name))
}
