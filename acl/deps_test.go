package acl_test

import (
	"go/build"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// acl is a library for any caller, and what decides must not be able to act.
// These are the packages it may import itself, and why others are not.
func TestImports(t *testing.T) {
	allowed := []string{
		"github.com/gaissmai/bart", // prefixes
		"github.com/gobwas/glob",   // globs
		"golang.org/x/net/idna",    // Unicode names in rules
	}
	forbidden := map[string]string{
		"net":                  "acl opens no sockets and resolves no names; net/netip holds addresses",
		"net/http":             "acl knows no protocol",
		"net/url":              "acl reads hosts and ports, not URLs",
		"os":                   "acl opens no files; callers hand over the text",
		"os/exec":              "acl starts nothing",
		"io/fs":                "acl opens no files",
		"syscall":              "acl runs everywhere",
		"golang.org/x/sys":     "acl runs everywhere",
		"unsafe":               "acl has no need for it",
		"reflect":              "acl has no need for it",
		"sync":                 "a Policy never changes, so nothing is locked",
		"math/rand":            "a decision does not depend on chance",
		"math/rand/v2":         "a decision does not depend on chance",
		"log":                  "acl returns what it finds",
		"log/slog":             "acl returns what it finds",
		"testing":              "test helpers live in acltest",
		"path/filepath":        "acl opens no files",
		"github.com/miekg/dns": "acl resolves no names",
	}
	pkg, err := build.ImportDir(".", 0)
	require.NoError(t, err)
	for _, name := range pkg.GoFiles {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotRegexp(t, `time\.(Now|Since|Until|After|Tick|New\w+)\(`, string(text), "%s: what time it is, the caller says", name)
	}
	for _, path := range pkg.Imports {
		if why, ok := forbidden[path]; ok {
			t.Errorf("acl imports %s: %s", path, why)
		}
		first, _, _ := strings.Cut(path, "/")
		if strings.Contains(first, ".") && !slices.Contains(allowed, path) {
			t.Errorf("acl imports %s: only the standard library and %s are allowed", path, allowed)
		}
	}
}

// The reference shares no code with what it is compared to.
func TestReferenceIsIndependent(t *testing.T) {
	pkg, err := build.ImportDir("acltest", 0)
	require.NoError(t, err)
	require.NotEmpty(t, pkg.Imports)
	for _, path := range pkg.Imports {
		require.NotContains(t, path, "sluice", "acltest imports what it is to check")
	}
}
