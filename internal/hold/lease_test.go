package hold

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLeaseInWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z0-9_/-]{0,20}`)
		l := Lease{
			UID: text.Draw(t, "uid"), Version: text.Draw(t, "version"), Holder: text.Draw(t, "holder"),
			Nonce:   Nonce{rapid.Uint64().Draw(t, "process"), rapid.Uint64().Draw(t, "count")},
			Bound:   time.Duration(rapid.Int64Range(0, 60_000).Draw(t, "ms")) * time.Millisecond,
			Mark:    text.Draw(t, "mark"),
			Leaving: rapid.Bool().Draw(t, "leaving"), Successor: text.Draw(t, "successor"),
		}
		assert.Equal(t, l, ParseLease(l.UID, l.Version, l.Holder, l.Annotations()))
	})
}

func TestParseLease(t *testing.T) {
	tests := []struct {
		want  Lease
		nonce string
		bound string
	}{
		{Lease{}, "", ""},
		{Lease{}, "000000000000000a000000000000000", "-1"},
		{Lease{}, "000000000000000a00000000000000+1", "x"},
		{Lease{Nonce: Nonce{10, 1}, Bound: MaxBound}, "000000000000000a0000000000000001", "999999999999999"},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, ParseLease("", "", "", map[string]string{annotationNonce: tt.nonce, annotationBound: tt.bound}))
	}
	assert.Equal(t, "2751", Lease{Bound: 2750*time.Millisecond + 1}.Annotations()[annotationBound], "rounded up")
}

func TestSettingsCheck(t *testing.T) {
	with := func(do func(*Settings)) Settings {
		s := Defaults
		do(&s)
		return s
	}
	tests := []struct {
		of   string // the flag that comes first
		want string
		set  Settings
	}{
		{"hold-lease", "lease 3.1s is less than 1.15 times pending 750ms and held 2s: at least 3.1625s", with(func(s *Settings) { s.Lease = 3100 * time.Millisecond })},
		{"hold-pending", "pending 9ms: the shortest time that the fence takes is 10ms", with(func(s *Settings) { s.Pending = 9 * time.Millisecond })},
		{"hold-renew", "renew 0s: more than 0", with(func(s *Settings) { s.Renew = 0 })},
		{"hold-renew", "renew 1.25s: held 2s must be more than that and pending 750ms together, or the address is fenced between renewals", with(func(s *Settings) { s.Renew = 1250 * time.Millisecond })},
		{"hold-held", "pending 750ms and held 1m0s are more than 1m0s together", with(func(s *Settings) { s.Held, s.Lease = time.Minute, time.Hour })},
		{"hold-gateway-misses", "gateway misses 0: at least 1", with(func(s *Settings) { s.GatewayMisses = 0 })},
		{"hold-retry", "retry 0s: more than 0", with(func(s *Settings) { s.Retry = 0 })},
		{"drain-timeout", "-1s: no time is negative", with(func(s *Settings) { s.DrainTimeout = -time.Second })},
	}
	assert.Empty(t, Defaults.Check())
	for _, tt := range tests {
		all := tt.set.Check()
		require.Len(t, all, 1, tt.want)
		assert.EqualError(t, all[0], tt.want)
		assert.Equal(t, tt.of, all[0].Of[0])
	}
}

// What replicas write is told from what somebody else has put there.
func TestWritten(t *testing.T) {
	id := Identity{Pod: "u-1", Process: 7}
	assert.True(t, Lease{Holder: id.String(), Nonce: Nonce{7, 1}}.Written())
	assert.True(t, Lease{Nonce: Nonce{7, 1}}.Written(), "made, or given up")
	assert.False(t, Lease{Holder: id.String(), Nonce: Nonce{8, 1}}.Written())
	assert.False(t, Lease{Holder: "somebody", Bound: time.Minute}.Written())
	assert.False(t, Lease{Bound: time.Minute}.Written())
}
