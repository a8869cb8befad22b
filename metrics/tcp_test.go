package metrics

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
)

// What two users share disappears with the last of them.
func TestTCPRelease(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewTCP(reg)
	count := func() int {
		n, err := testutil.GatherAndCount(reg)
		assert.NoError(t, err)
		return n
	}
	l, d := m.Listener("80"), m.Destination("80", "a.test:80")
	other := m.Destination("81", "a.test:80")
	assert.Same(t, d, m.Destination("80", "a.test:80"))
	d.Connected(time.Second)
	d.ConnectFailed(TCPTimeout)
	d.Release()
	d.Moved(3, 4)
	d.Ended()
	assert.EqualValues(t, 3, testutil.ToFloat64(d.in))
	assert.Zero(t, testutil.ToFloat64(d.sessions))
	all := count()
	d.Release()
	assert.Less(t, count(), all)
	l.Release()
	other.Release()
	assert.Zero(t, count())
	assert.EqualValues(t, 0, testutil.ToFloat64(m.Destination("80", "a.test:80").in), "begins anew")
}
