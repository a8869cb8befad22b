package tcp

import (
	"encoding/json"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecordJSON(t *testing.T) {
	client := netip.MustParseAddrPort("192.0.2.7:40000")
	full := Record{
		Start:    time.Date(2026, 11, 5, 3, 4, 5, 6_700_000, time.UTC),
		Listener: ":5432", Name: "data\"base", Client: client, Peer: netip.MustParseAddrPort("192.0.2.1:9"), ServerName: "db.example.com",
		Destination: "db.example.com:5432", Addr: netip.MustParseAddrPort("[2001:db8::1]:5432"), Source: netip.MustParseAddr("2001:db8::2"),
		Attempts: 2, Connect: 1500 * time.Microsecond, Total: 2 * time.Second, Received: 12, Sent: 34, End: "reset", Error: "broken",
	}
	for _, test := range []struct {
		name, want string
		r          Record
	}{
		{"all fields", `{"time":"2026-11-05T03:04:05.006Z","listener":":5432","name":"data\"base","client":"192.0.2.7:40000","peer":"192.0.2.1:9",` +
			`"server_name":"db.example.com","destination":"db.example.com:5432","address":"[2001:db8::1]:5432","source":"2001:db8::2","attempts":2,` +
			`"connect_ms":1.500,"total_ms":2000.000,"received":12,"sent":34,"end":"reset","error":"broken"}`, full},
		{"refused at once", `{"time":"2026-11-05T03:04:05.006Z","listener":":5432","client":"192.0.2.7:40000","attempts":0,` +
			`"connect_ms":0.000,"total_ms":0.000,"received":0,"sent":0,"end":"refused","refused":"limit","error":"too many connections"}`,
			Record{Start: full.Start, Listener: ":5432", Client: client, Peer: client, End: "refused", Refused: "limit", Error: "too many connections"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := test.r.AppendJSON([]byte("before\n"))
			assert.Equal(t, "before\n"+test.want+"\n", string(line))
			require.True(t, json.Valid(line[len("before\n"):]))
		})
	}
	b := make([]byte, 0, 1024)
	assert.Zero(t, testing.AllocsPerRun(100, func() { b = full.AppendJSON(b[:0]) }))
}

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
	eventually(t, "counted", func() bool { return counted() == [2]float64{14, 14} })
	echoes(t, c, "!")
	c.Close()
	last := r.last(1)
	assert.Equal(t, [2]int64{15, 15}, [2]int64{last.Received, last.Sent})
	assert.Equal(t, [2]float64{15, 15}, counted())
}
