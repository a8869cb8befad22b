package accesslog

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConnectionJSON(t *testing.T) {
	client := netip.MustParseAddrPort("192.0.2.7:40000")
	full := Connection{
		Common: Common{
			Start: time.Date(2026, 11, 5, 3, 4, 5, 6_700_000, time.UTC), Client: client,
			Addr: netip.MustParseAddrPort("[2001:db8::1]:5432"), Source: netip.MustParseAddr("2001:db8::2"),
			Connect: 1500 * time.Microsecond, Total: 2 * time.Second, Received: 12, Sent: 34, Error: "broken",
		},
		Listener: ":5432", Name: "data\"base", Peer: netip.MustParseAddrPort("192.0.2.1:9"), ServerName: "db.example.com",
		Destination: "db.example.com:5432", Attempts: 2, End: "reset",
	}
	for _, test := range []struct {
		name, want string
		r          Connection
	}{
		{"all fields", `{"time":"2026-11-05T03:04:05.006Z","listener":":5432","name":"data\"base","client":"192.0.2.7:40000","peer":"192.0.2.1:9",` +
			`"server_name":"db.example.com","destination":"db.example.com:5432","address":"[2001:db8::1]:5432","source":"2001:db8::2","attempts":2,` +
			`"connect_ms":1.500,"total_ms":2000.000,"received":12,"sent":34,"end":"reset","error":"broken"}`, full},
		{"refused at once", `{"time":"2026-11-05T03:04:05.006Z","listener":":5432","client":"192.0.2.7:40000","attempts":0,` +
			`"connect_ms":0.000,"total_ms":0.000,"received":0,"sent":0,"end":"refused","refused":"limit","error":"too many connections"}`,
			Connection{Common: Common{Start: full.Start, Client: client, Error: "too many connections"}, Listener: ":5432", Peer: client, End: "refused", Refused: "limit"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := ConnectionJSON([]byte("before\n"), &test.r)
			assert.Equal(t, "before\n"+test.want+"\n", string(line))
			require.True(t, json.Valid(line[len("before\n"):]))
		})
	}
	b := make([]byte, 0, 1024)
	assert.Zero(t, testing.AllocsPerRun(100, func() { b = ConnectionJSON(b[:0], &full) }))
}
