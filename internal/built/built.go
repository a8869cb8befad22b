// Package built says what a program was built from.
package built

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// What the linker sets (-X) where the programs are built for others: by the Makefile,
// deploy/image and tools/release. There the state of the checkout is not stamped into the
// programs by go build, whose words for it depend on which tags were there.
var (
	version string
	commit  string // of 40 digits
	date    string // of that commit, RFC 3339 in UTC
)

// Info is what a program was built from. Commit and Date are empty when nobody knows.
type Info struct {
	Version  string   `json:"version"`
	Commit   string   `json:"commit,omitempty"`
	Date     string   `json:"date,omitempty"`
	Modified bool     `json:"modified"` // there was more in the checkout than in the commit
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	Modules  []Module `json:"modules"` // that are in the program, by path
}

// Module is a module of other people's in the program.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"` // as in go.sum
}

// Version is the program's version; "dev" when nobody has given it one.
func Version() string {
	bi, _ := debug.ReadBuildInfo()
	return infoOf(bi).Version
}

// Read is what this program was built from.
func Read() Info {
	bi, _ := debug.ReadBuildInfo()
	return infoOf(bi)
}

// infoOf is what the linker was told, and where it was told nothing what go build has
// stamped. bi may be nil.
func infoOf(bi *debug.BuildInfo) Info {
	i := Info{Version: version, Commit: commit, Date: date, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: []Module{}}
	if bi == nil {
		bi = new(debug.BuildInfo)
	}
	if i.Version == "" {
		i.Version = "dev"
		if v := bi.Main.Version; v != "" && v != "(devel)" {
			i.Version = v
		}
	}
	for _, s := range bi.Settings {
		switch {
		case s.Key == "vcs.revision" && i.Commit == "":
			i.Commit = s.Value
		case s.Key == "vcs.time" && i.Date == "":
			i.Date = s.Value
		case s.Key == "vcs.modified":
			i.Modified = s.Value == "true"
		}
	}
	i.Modified = i.Modified || strings.HasSuffix(i.Version, "-dirty") || strings.HasSuffix(i.Version, "+dirty")
	for _, m := range bi.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		i.Modules = append(i.Modules, Module{m.Path, m.Version, m.Sum})
	}
	return i
}
