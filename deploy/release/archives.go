package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/internal/image"
)

// texts are the files beside the programs: manual pages and completions, made by the
// programs themselves, units, and what is to be read.
func (r *release) texts() (map[string][]byte, error) {
	files := map[string][]byte{}
	dir, err := os.MkdirTemp("", "sluice-man-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := r.manuals(dir); err != nil {
		return nil, err
	}
	made, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	from := map[string]string{"LICENSE": "LICENSE", "CHANGELOG.md": "CHANGELOG.md"}
	for _, f := range made {
		if strings.HasSuffix(f.Name(), ".1") {
			from["man/"+f.Name()] = filepath.Join(dir, f.Name())
		} else {
			from["completions/"+f.Name()] = filepath.Join(dir, f.Name())
		}
	}
	for _, name := range []string{"sluice.service", "sluice.socket", "sluice.yaml", "rules.txt"} {
		from["systemd/"+name] = filepath.Join("deploy", "package", name)
	}
	presets, err := filepath.Glob(filepath.Join(r.Root, "deploy", "presets", "*.txt"))
	if err != nil {
		return nil, err
	}
	for _, path := range presets {
		from["presets/"+filepath.Base(path)] = path
	}
	for to, path := range from {
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Root, path)
		}
		if files[to], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// manuals has the programs write their manual pages and completions into a folder.
func (r *release) manuals(dir string) error {
	programs, err := os.MkdirTemp("", "sluice-man-programs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	// For this machine, whatever the release is for; otherwise as the programs themselves, so that
	// their packages need not be compiled again.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "man", "-o", programs+"/")
	for _, name := range image.Programs {
		build.Args = append(build.Args, "./cmd/"+name)
	}
	build.Dir = r.Root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	if msg, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build what writes manual pages: %w\n%s", err, msg)
	}
	for _, name := range image.Programs {
		cmd := exec.Command(filepath.Join(programs, name), "man", dir, r.Version)
		cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.Date.Unix()), "TZ=UTC")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("manual pages of %s: %w\n%s", name, err, msg)
		}
	}
	return nil
}

// archives are for who installs by hand: a tar file for each architecture.
func (r *release) archives() error {
	var all errgroup.Group
	for _, arch := range architectures {
		all.Go(func() error { return r.archive(arch) })
	}
	return all.Wait()
}

func (r *release) archive(arch string) error {
	name := "sluice_" + r.number + "_linux_" + arch
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // the best takes three times as long, for 2 bytes of 1,000
	w := tar.NewWriter(z)
	dirs := map[string]bool{}
	add := func(path string, mode int64, text []byte) error {
		if dir := filepath.Dir(path); !dirs[dir] {
			dirs[dir] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/" + strings.TrimPrefix(dir+"/", "./"), Mode: 0o755, ModTime: r.Date, Format: tar.FormatPAX}); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name + "/" + path, Mode: mode, Size: int64(len(text)), ModTime: r.Date, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := w.Write(text)
		return err
	}
	for _, program := range image.Programs {
		if err := add(program, 0o755, r.programs[arch][program]); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(r.common)) {
		if err := add(path, 0o644, r.common[path]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return r.write(name+".tar.gz", b.Bytes())
}

// zipped is a text for a package, compressed as well as can be, which Debian wants.
func zipped(text []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one that there is
	_, _ = z.Write(text)                                  // memory takes it
	_ = z.Close()
	return b.Bytes()
}
