package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// packages are those of Debian and of RPM, for hosts: without sluice-kube, which is of use in a
// pod alone. nfpm writes them, from deploy/package.
func (r *release) packages() error {
	dir, err := os.MkdirTemp("", "sluice-package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	nfpm := filepath.Join(dir, "nfpm")
	build := exec.Command("go", "build", "-o", nfpm, "github.com/goreleaser/nfpm/v2/cmd/nfpm")
	build.Dir = filepath.Join(r.Root, "tools", "nfpm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if msg, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build nfpm: %w\n%s", err, msg)
	}
	var all errgroup.Group
	for _, arch := range architectures {
		stage := filepath.Join(dir, arch)
		if err := r.stage(stage, arch); err != nil {
			return err
		}
		for _, kind := range []string{"deb", "rpm"} {
			cmd := exec.Command(nfpm, "package", "-f", "nfpm.yaml", "-p", kind, "-t", r.out)
			cmd.Dir = stage
			cmd.Env = append(os.Environ(), "ARCH="+arch, "VERSION="+r.number, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.Date.Unix()), "TZ=UTC")
			all.Go(func() error {
				if msg, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("the %s package for %s: %w\n%s", kind, arch, err, msg)
				}
				return nil
			})
		}
	}
	return all.Wait()
}

// stage puts what is in a package into a folder.
func (r *release) stage(dir, arch string) error {
	files := map[string][]byte{"changelog.gz": zipped(r.common["CHANGELOG.md"])}
	for path, text := range r.common {
		files[strings.TrimPrefix(path, "systemd/")] = text
		if page, ok := strings.CutPrefix(path, "man/"); ok && !strings.HasPrefix(page, "sluice-kube") {
			files[path+".gz"] = zipped(text)
		}
	}
	for name, text := range r.programs[arch] {
		files[name] = text
	}
	for _, name := range []string{"nfpm.yaml", "postinstall.sh", "preremove.sh", "postremove.sh"} {
		var err error
		if files[name], err = os.ReadFile(filepath.Join(r.Root, "deploy", "package", name)); err != nil {
			return err
		}
	}
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(path, r.Date, r.Date); err != nil {
			return err
		}
	}
	return nil
}
