package logline

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 5, 3, 4, 5, 1_002_003, time.FixedZone("", 3600))
	for digits, want := range map[int]string{
		1: "2026-11-05T02:04:05.0Z", 3: "2026-11-05T02:04:05.001Z",
		6: "2026-11-05T02:04:05.001002Z", 9: "2026-11-05T02:04:05.001002003Z",
	} {
		assert.Equal(t, want, string(Time(nil, at, digits)))
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		require.Equal(t, at.UTC().Format("2006-01-02T15:04:05.000000Z"), string(Time(nil, at, 6)))
	})
}

func TestID(t *testing.T) {
	assert.Equal(t, "00000000deadbeef", string(ID(nil, 0xdeadbeef)))
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.000", time.Microsecond: "0.001", 12*time.Second + 34*time.Microsecond: "12000.034", 999 * time.Nanosecond: "0.000",
	} {
		assert.Equal(t, want, string(Millis(nil, d)))
	}
}

func TestPadded(t *testing.T) {
	assert.Equal(t, "007", string(Padded(nil, 7, 3)))
	assert.Equal(t, "000", string(Padded(nil, 0, 3)))
	assert.Equal(t, "1234", string(Padded(nil, 1234, 3)))
}

// Whatever comes, it is one JSON string without a line end in it, and text comes
// back as it was.
func TestString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		b := String(nil, s)
		require.Equal(t, b, String(nil, []byte(s)))
		require.NotContains(t, string(b), "\n")
		var back string
		require.NoError(t, json.Unmarshal(b, &back))
		if utf8.ValidString(s) {
			require.Equal(t, s, back)
		}
	})
	assert.Equal(t, `"a\"\\\u000a\u007f`+"\ufffd"+`ü"`, string(String(nil, "a\"\\\n\x7f\xffü")))
}

func TestAddresses(t *testing.T) {
	assert.Equal(t, `"192.0.2.1"`, string(Addr(nil, netip.MustParseAddr("192.0.2.1"))))
	assert.Equal(t, `"[2001:db8::1]:443"`, string(AddrPort(nil, netip.MustParseAddrPort("[2001:db8::1]:443"))))
}

func TestAllocatesNothing(t *testing.T) {
	b := make([]byte, 0, 1024)
	at, s := time.Now(), "host \"quoted\" ünicode \xff"
	bytes := []byte(s)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		b = String(String(Millis(Time(b[:0], at, 6), time.Second), s), bytes)
	}))
}
