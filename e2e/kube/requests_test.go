//go:build linux

package kube

import (
	"context"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// What the API server is asked for while nothing happens: the holder writes its Lease twice a
// second, and who waits hears of that by a watch, and asks for nothing. The time between the two
// readings is measured, since the API server's own page may take seconds on a busy machine; and
// what was written is told by a watch, so that too much has a name.
func TestRequests(t *testing.T) {
	f := newFailover(t, 3)
	f.awaitHolder(nil)
	s := f.steady()
	s.outage()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w, err := f.c.CoordinationV1().Leases(metav1.NamespaceAll).Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	written := make(chan map[string]int)
	go func() { written <- writes(w) }()

	begun, before := time.Now(), f.c.leaseRequests(t)
	time.Sleep(10 * time.Second) // a rate has a length
	least, after := time.Since(begun), f.c.leaseRequests(t)
	most := time.Since(begun)
	stop()
	all := <-written

	hourly := func(verb string, span time.Duration) float64 {
		return float64(after[verb]-before[verb]) * float64(time.Hour) / float64(span)
	}
	t.Logf("requests for Leases an hour, of 3 replicas: PUT %.0f, GET %.0f, WATCH %.0f; in %v to %v there were written: %v",
		hourly("PUT", least), hourly("GET", least), hourly("WATCH", least), least, most, all)
	assert.GreaterOrEqual(t, hourly("PUT", least), 3000.0, "two a second, and less where there is much else to do")
	assert.LessOrEqual(t, hourly("PUT", most), 7200*1.25, "two a second, and the API server's own: %v", all)
	assert.LessOrEqual(t, hourly("GET", most), 3600.0, "those of renewals without an answer, and the API server's own")
}

// writes are how often each Lease was written while w went on.
func writes(w watch.Interface) map[string]int {
	all := map[string]int{}
	for e := range w.ResultChan() {
		if l, ok := e.Object.(*coordinationv1.Lease); ok && e.Type == watch.Modified {
			all[l.Namespace+"/"+l.Name]++
		}
	}
	return all
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
