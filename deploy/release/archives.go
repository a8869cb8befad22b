package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

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
	for _, name := range image.Programs {
		// For this machine, whatever the release is for.
		cmd := exec.Command("go", "run", "-buildvcs=false", "-tags", "man", "./cmd/"+name, "man", dir, r.Version)
		cmd.Dir = r.Root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOFLAGS=", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.Date.Unix()), "TZ=UTC")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("manual pages of %s: %w\n%s", name, err, msg)
		}
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

// archives are for who installs by hand: a tar file for each architecture.
func (r *release) archives() error {
	for _, arch := range architectures {
		name := "sluice_" + r.number + "_linux_" + arch
		var b bytes.Buffer
		z := zipper(&b)
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
		if err := r.write(name+".tar.gz", b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// zipper compresses as well as it can, and writes neither a name nor a time.
func zipper(w io.Writer) *gzip.Writer {
	z, _ := gzip.NewWriterLevel(w, gzip.BestCompression) // the level is one that there is
	return z
}

func zipped(text []byte) []byte {
	var b bytes.Buffer
	z := zipper(&b)
	_, _ = z.Write(text) // memory takes it
	_ = z.Close()
	return b.Bytes()
}
