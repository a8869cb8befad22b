package built

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestInfo(t *testing.T) {
	stamped := &debug.BuildInfo{
		Main: debug.Module{Version: "v0.3.0-0.20261129120000-0123456789ab+dirty"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
			{Key: "vcs.time", Value: "2026-11-29T12:00:00Z"},
			{Key: "vcs.modified", Value: "true"},
		},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:a"},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1", Sum: "h1:fork"}},
		},
	}
	linked := func(v, c, d string) { version, commit, date = v, c, d }
	t.Cleanup(func() { linked("", "", "") })

	i := infoOf(stamped)
	assert.Equal(t, Info{
		Version: "v0.3.0-0.20261129120000-0123456789ab+dirty", Commit: "0123456789abcdef0123456789abcdef01234567", Date: "2026-11-29T12:00:00Z",
		Modified: true, Go: runtime.Version(), Platform: "linux/" + runtime.GOARCH,
		Modules: []Module{{"example.com/a", "v1.0.0", "h1:a"}, {"example.com/fork", "v1.0.1", "h1:fork"}},
	}, i)

	// Nobody knows anything: nothing is made up.
	assert.Equal(t, Info{Version: "dev", Go: runtime.Version(), Platform: i.Platform, Modules: []Module{}}, infoOf(nil))
	assert.Equal(t, "dev", infoOf(&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}).Version)

	// What the linker was told wins.
	linked("v0.2.0", "fedcba9876543210fedcba9876543210fedcba98", "2026-11-30T12:00:00Z")
	i = infoOf(&debug.BuildInfo{Main: stamped.Main})
	assert.Equal(t, "v0.2.0 fedcba9876543210fedcba9876543210fedcba98 2026-11-30T12:00:00Z false", i.Version+" "+i.Commit+" "+i.Date+" "+map[bool]string{true: "true", false: "false"}[i.Modified])
	linked("v0.2.0-3-g0123456-dirty", "", "")
	assert.True(t, infoOf(nil).Modified)
}
