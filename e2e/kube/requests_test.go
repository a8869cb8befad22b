//go:build linux

package kube

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the API server is asked for while nothing happens: the holder writes its Lease twice a
// second, and who waits hears of that by a watch, and asks for nothing.
func TestRequests(t *testing.T) {
	f := newFailover(t, 3)
	f.awaitHolder(nil)
	s := f.steady()
	s.outage()
	before := f.c.leaseRequests(t)
	const span = 10 * time.Second
	time.Sleep(span) // a rate has a length
	after := f.c.leaseRequests(t)
	hourly := func(verb string) float64 { return float64(after[verb]-before[verb]) * float64(time.Hour/span) }
	t.Logf("requests for Leases an hour, of 3 replicas: PUT %.0f, GET %.0f, WATCH %.0f", hourly("PUT"), hourly("GET"), hourly("WATCH"))
	assert.InDelta(t, 6000, hourly("PUT"), 3000, "two a second, and less where there is much else to do")
	assert.LessOrEqual(t, hourly("GET"), 3600.0, "those of renewals without an answer, and the API server's own")
}

// leaseRequests are the requests for Leases that the API server has answered, by their verbs.
func (c *cluster) leaseRequests(t *testing.T) map[string]int { return c.requests(t, "leases") }

func (c *cluster) requests(t *testing.T, resource string) map[string]int {
	t.Helper()
	text, err := c.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	require.NoError(t, err)
	n := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^apiserver_request_total\{.*resource="`+resource+`".*verb="([A-Z]+)".*\} ([0-9]+)$`).FindAllSubmatch(text, -1) {
		count, err := strconv.Atoi(string(m[2]))
		require.NoError(t, err)
		n[string(m[1])] += count
	}
	return n
}
