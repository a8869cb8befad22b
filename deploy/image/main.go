// Command image builds the container image of Sluice: the programs for amd64
// and arm64, as one OCI archive, with nothing but Go.
//
//	go run ./deploy/image -o bin/sluice-image.tar
//
// With -root it writes one architecture's files into a folder instead, for
// deploy/Containerfile. The same source gives the same bytes; SOURCE_DATE_EPOCH is
// the time that files carry.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/image"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	out := flag.String("o", "bin/sluice-image.tar", "write the OCI archive to this `file`")
	name := flag.String("name", "localhost/sluice:dev", "`NAME:TAG` of the image when it is loaded")
	version := flag.String("version", "dev", "`version` that the programs print")
	archs := flag.String("arch", "amd64,arm64", "architectures, separated by commas")
	root := flag.String("root", "", "write the files of the one architecture of -arch below this `folder` instead")
	flag.Parse()

	created, err := sourceDate()
	if err != nil {
		return err
	}
	all := strings.Split(*archs, ",")
	if *root != "" && len(all) != 1 {
		return errors.New("-root wants one architecture: -arch amd64, for example")
	}
	files := map[string][]image.File{}
	for _, arch := range all {
		if files[arch], err = build(arch, *version); err != nil {
			return err
		}
	}
	if *root != "" {
		return writeRoot(*root, files[all[0]], created)
	}
	return writeArchive(*out, files, image.Meta{Name: *name, Version: *version, Created: created})
}

// sourceDate is SOURCE_DATE_EPOCH (reproducible-builds.org), or the beginning of time.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		text = "0"
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// build makes the files of an image.
func build(arch, version string) ([]image.File, error) {
	programs, err := image.SourceOf(".", version).Compile(arch)
	if err != nil {
		return nil, err
	}
	return image.Files(programs)
}

func writeArchive(path string, files map[string][]image.File, m image.Meta) error {
	index, err := image.Index(files, m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := image.WriteArchive(f, index, m); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s@%s\n", path, m.Name, digest)
	return nil
}

// writeRoot writes the files below dir, as root: the capabilities are an extended
// attribute that only root may set.
func writeRoot(dir string, files []image.File, created time.Time) error {
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, os.FileMode(f.Mode)); err != nil {
			return err
		}
		if err := os.Chtimes(path, created, created); err != nil {
			return err
		}
		if f.Capabilities == 0 {
			continue
		}
		if err := unix.Setxattr(path, image.XattrName, f.Capabilities.Xattr(), 0); err != nil {
			return fmt.Errorf("give %s its capabilities (as root): %w", path, err)
		}
	}
	return nil
}
