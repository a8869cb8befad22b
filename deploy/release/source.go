package main

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/sluiceproxy/sluice/internal/image"
)

// versions are those of semver.org that can be the version of a Debian and of an RPM package:
// no build metadata.
var versions = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?$`)

func checkVersion(version string) error {
	if !versions.MatchString(version) {
		return fmt.Errorf("%q is no version; write vMAJOR.MINOR.PATCH, as v0.2.0, or v0.2.0-rc.1 before it (make release VERSION=v0.2.0)", version)
	}
	return nil
}

// checkCheckout wants a commit, all of it and nothing else, and no other with the version's tag.
func checkCheckout(s image.Source) error {
	if s.Commit == "" {
		return errors.New("this is no git checkout with a commit, and a release says which it is of")
	}
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", s.Root}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	changed, err := git("status", "--porcelain")
	if err != nil {
		return fmt.Errorf("git status: %w", err)
	}
	if changed != "" {
		return fmt.Errorf("there are changes that are not committed; commit or stash them:\n%s", changed)
	}
	if tagged, err := git("rev-parse", "-q", "--verify", "refs/tags/"+s.Version+"^{commit}"); err == nil && tagged != s.Commit {
		return fmt.Errorf("the tag %s is of another commit, %s; check that out, or choose another version", s.Version, tagged)
	}
	return nil
}
