package proxy

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// logged are the records so far, without times, ids and ports.
func (st *theatre) logged() (all []string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, line := range st.records {
		var fields map[string]any
		require.NoError(st.t, json.Unmarshal([]byte(line), &fields))
		for k := range fields {
			if k == "time" || k == "id" || k == "client" || strings.HasSuffix(k, "_ms") {
				delete(fields, k)
			}
		}
		b, err := json.Marshal(fields)
		require.NoError(st.t, err)
		all = append(all, string(b))
	}
	return all
}

// counted are the counters, and how many durations were observed.
func (st *theatre) counted() map[string]float64 {
	all, err := st.reg.Gather()
	require.NoError(st.t, err)
	m := make(map[string]float64)
	for _, f := range all {
		for _, x := range f.Metric {
			key := f.GetName()
			for _, l := range x.Label {
				key += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
			}
			switch {
			case x.Counter != nil:
				m[key] = x.Counter.GetValue()
			case x.Histogram != nil:
				m[key] = float64(x.Histogram.GetSampleCount())
			}
		}
	}
	return m
}

var varies = regexp.MustCompile(`(?m)^(Date: |X-Request-Id: |Request id: +).*$`)

// normal is what a client got, without dates and ids.
func normal(s string) string { return varies.ReplaceAllString(s, "$1-") }

// withoutPrefix takes away what comes of the prefix, which is alike each time.
func (st *theatre) withoutPrefix(o *outcome) {
	require.Contains(st.t, o.Records[0], "denied.test/prefix")
	o.Records = o.Records[1:]
	_, after, ok := strings.Cut(o.Client, "Request id:   -\n")
	require.True(st.t, ok, o.Client)
	var body float64
	_, length, _ := strings.Cut(o.Client, "Content-Length: ")
	fmt.Sscan(length, &body)
	o.Client = after
	gone := map[string]float64{
		"sluice_requests_total mode=forward reason=rule verdict=deny": 1, "sluice_errors_total class=http_request_denied": 1,
		"sluice_request_duration_seconds mode=forward": 1, "sluice_client_sent_bytes_total mode=forward": body,
	}
	for k, v := range gone {
		if o.Metrics[k] -= v; o.Metrics[k] == 0 {
			delete(o.Metrics, k)
		}
	}
}

// whatWasHeard is what servers were sent, in order, when they are done.
func (st *theatre) whatWasHeard() string {
	done := func() bool {
		st.Gate.Pool.Evict(100)
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.ended == len(st.heard)
	}
	nettest.Eventually(st.t, "all connections of servers are closed", done)
	return strings.Join(st.heard, "\n-- another connection --\n")
}

// atHand reads what has come.
func atHand(t *testing.T, c *net.TCPConn) (got []byte) {
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	b := make([]byte, 64<<10)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for {
			n, _ := sock.TryRead(int(fd), b)
			if n <= 0 {
				return
			}
			got = append(got, b[:n]...)
		}
	}))
	return got
}
