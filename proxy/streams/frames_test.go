package streams

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"pgregory.net/rapid"
)

// However what a server says is cut, all of it comes across but the size of frames that it takes.
func TestSmallFrames(t *testing.T) {
	says := func(size ...uint32) []byte {
		var b bytes.Buffer
		f := http2.NewFramer(&b, nil)
		settings := []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0x05050505}}
		for _, n := range size {
			settings = append(settings, http2.Setting{ID: http2.SettingMaxFrameSize, Val: n}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
		}
		require.NoError(t, f.WriteSettings(settings...))
		require.NoError(t, f.WriteSettingsAck())
		require.NoError(t, f.WriteData(1, false, []byte{0, 5, 1, 2, 3, 4}))
		require.NoError(t, f.WriteData(1, true, nil))
		require.NoError(t, f.WriteSettings(settings...))
		require.NoError(t, f.WriteRawFrame(0x20, 4, 7, bytes.Repeat([]byte{0, 5, 0xff}, 1000)))
		require.NoError(t, f.WriteSettings(settings...))
		return b.Bytes()
	}
	rapid.Check(t, func(rt *rapid.T) {
		var size, want []uint32
		for range rapid.IntRange(0, 3).Draw(rt, "sizes") {
			size = append(size, rapid.Uint32Range(16<<10, 1<<24-1).Draw(rt, "size"))
			want = append(want, 16<<10)
		}
		said := says(size...)
		var f smallFrames
		for rest := said; len(rest) > 0; {
			n := rapid.IntRange(1, min(len(rest), 20)).Draw(rt, "piece")
			f.see(rest[:n])
			rest = rest[n:]
		}
		assert.Equal(rt, says(want...), said)
	})
}
