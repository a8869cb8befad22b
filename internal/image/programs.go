package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Programs are the programs that there are, each a folder of cmd.
var Programs = []string{"sluice", "sluice-netsetup", "sluice-kube"}

// Source is what programs are built from.
type Source struct {
	Root    string    // of the checkout
	Version string    // that the programs print
	Commit  string    // "": not known
	Date    time.Time // of the commit
}

// SourceOf is the checkout below root. Without git, or outside of a checkout, there is no
// commit.
func SourceOf(root, version string) Source {
	s := Source{Root: root, Version: version}
	out, err := exec.Command("git", "-C", root, "log", "-1", "--format=%H %ct").Output()
	if err != nil {
		return s
	}
	var seconds int64
	if _, err := fmt.Sscan(string(out), &s.Commit, &seconds); err == nil {
		s.Date = time.Unix(seconds, 0).UTC()
	}
	return s
}

// Compile builds the programs for an architecture and returns them by name.
func (s Source) Compile(arch string) (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "sluice-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	const built = "github.com/sluiceproxy/sluice/internal/built."
	flags := "-s -w -funcalign=16 -X " + built + "version=" + s.Version
	if s.Commit != "" {
		flags += " -X " + built + "commit=" + s.Commit + " -X " + built + "date=" + s.Date.Format(time.RFC3339)
	}
	// Nothing of this machine may get into the program: -trimpath takes the paths
	// out, and what go build stamps of the checkout depends on the tags that are there.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", dir+"/")
	for _, name := range Programs {
		cmd.Args = append(cmd.Args, "./cmd/"+name)
	}
	cmd.Dir = s.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s for %s in %q: %w\n%s", strings.Join(Programs, ", "), arch, s.Root, err, msg)
	}
	programs := map[string][]byte{}
	for _, name := range Programs {
		if programs[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return programs, nil
}

// Files are the files of an image with these programs.
func Files(programs map[string][]byte) ([]File, error) {
	roots, err := Roots()
	if err != nil {
		return nil, err
	}
	files := []File{{Path: RootsPath, Mode: 0o644, Data: roots}}
	for _, name := range Programs {
		f := File{Path: "/" + name, Mode: 0o755, Data: programs[name]}
		if name == "sluice-netsetup" {
			// The egress router's images ran as root, and pod specifications count on it:
			// "privileged: true" and no user. Here the user is nobody, whom a privileged
			// container gives no capability; the file gives these two.
			f.Capabilities = NetAdmin | NetRaw
		}
		files = append(files, f)
	}
	return files, nil
}
