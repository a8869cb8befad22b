// Command release writes what a release of Sluice is made of into a folder: programs,
// packages, the container image, lists of what is in them (SPDX), and checksums.
//
//	go run ./deploy/release -version v0.2.0 -o dist
//
// The same commit gives the same bytes, wherever and whenever it is built, with the same Go.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/internal/image"
)

func main() {
	version := flag.String("version", "", "`version` of the release, vMAJOR.MINOR.PATCH")
	out := flag.String("o", "dist", "write into this `folder`, which may not have anything in it")
	flag.Parse()
	if err := run(*version, *out); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

// architectures are what a release is made for.
var architectures = []string{"amd64", "arm64"}

// release is what is being made.
type release struct {
	image.Source
	number   string                       // the version without its v
	out      string                       // folder
	programs map[string]map[string][]byte // by architecture and name
	common   map[string][]byte            // files beside the programs, by path, the same for all architectures
}

func run(version, out string) error {
	r, err := newRelease(version, out)
	if err != nil {
		return err
	}
	for _, arch := range architectures {
		if r.programs[arch], err = r.Compile(arch); err != nil {
			return err
		}
	}
	if r.common, err = r.texts(); err != nil {
		return err
	}
	var files errgroup.Group
	for _, step := range []func() error{r.archives, r.packages, r.image, r.sbom} {
		files.Go(step)
	}
	if err := files.Wait(); err != nil {
		return err
	}
	if err := r.checksums(); err != nil {
		return err
	}
	fmt.Printf("%s: %s of commit %s\n", out, version, r.Commit)
	return nil
}

// newRelease checks that there is something to release.
func newRelease(version, out string) (*release, error) {
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "deploy", "release")); err != nil {
		return nil, errors.New("run it from the top of the source")
	}
	r := &release{Source: image.SourceOf(root, version), number: strings.TrimPrefix(version, "v"), programs: map[string]map[string][]byte{}}
	if err := checkCheckout(r.Source); err != nil {
		return nil, err
	}
	if r.out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	if there, err := os.ReadDir(r.out); err == nil && len(there) > 0 {
		return nil, fmt.Errorf("there is something in %s already; remove it, or choose another folder (-o)", out)
	}
	return r, os.MkdirAll(r.out, 0o755)
}

// image writes the image index as an OCI archive.
func (r *release) image() error {
	files := map[string][]image.File{}
	for arch, programs := range r.programs {
		var err error
		if files[arch], err = image.Files(programs); err != nil {
			return err
		}
	}
	m := image.Meta{Name: "localhost/sluice:" + r.Version, Version: r.Version, Created: r.Date}
	index, err := image.Index(files, m)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.out, r.imageName()))
	if err != nil {
		return err
	}
	if err := image.WriteArchive(f, index, m); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (r *release) imageName() string { return "sluice_" + r.number + "_image.tar" }

// checksums are of all files, as sha256sum -c reads them.
func (r *release) checksums() error {
	files, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(r.out, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(text), f.Name())
	}
	return r.write("SHA256SUMS", []byte(list.String()))
}

func (r *release) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), text, 0o644)
}
