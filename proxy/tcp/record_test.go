package tcp

import (
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Bytes are counted while a connection lasts, those read early too, and once.
func TestBytesAreCountedAsTheyMove(t *testing.T) {
	r := start(t)
	l := listener(t, serve(t, "127.0.0.1:0", echo).addr.String())
	l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	r.must(l)
	counted := func() (n [2]float64) {
		families, err := r.reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if i := slices.Index([]string{"sluice_tcp_received_bytes_total", "sluice_tcp_sent_bytes_total"}, f.GetName()); i >= 0 {
				n[i] = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return n
	}
	c := r.connect(0)
	_, err := c.Write([]byte("PROXY TCP4 192.0.2.7 127.0.0.1 40000 80\r\nearly"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 5))
	require.NoError(t, err)
	echoes(t, c, " and late")
	nettest.Eventually(t, "counted", func() bool { return counted() == [2]float64{14, 14} })
	echoes(t, c, "!")
	c.Close()
	last := r.last(1)
	assert.Equal(t, [2]int64{15, 15}, [2]int64{last.Received, last.Sent})
	assert.Equal(t, [2]float64{15, 15}, counted())
}
