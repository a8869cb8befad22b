//go:build linux

package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
)

var root = filepath.Join("..", "..")

// A row says how a block is checked: by run, or by a test elsewhere and why not here.
type row struct {
	run  func(*testing.T, docs.Block)
	test string // FOLDER TestName
	why  string
}

// pages are all that somebody reads.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{"metrics/README.md"}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range found {
			name, err := filepath.Rel(root, path)
			require.NoError(t, err)
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// Every block of every page is run here, or is checked where its row says.
func TestEveryBlock(t *testing.T) {
	seen := map[string]bool{}
	for _, page := range pages(t) {
		for _, b := range docs.All(t, root, page) {
			r, ok := rows[b.Key()]
			seen[b.Key()] = true
			if !assert.True(t, ok, "%s:%d: nothing runs this block: give it a row, %q", b.Page, b.Line, b.Key()) {
				continue
			}
			t.Run(b.Key(), func(t *testing.T) {
				if r.run != nil {
					r.run(t, b)
					return
				}
				elsewhere(t, r)
			})
		}
	}
	for key := range rows {
		assert.True(t, seen[key], "a row of a block that is not there: %q", key)
	}
}

// elsewhere wants the test that a row names, and a reason.
func elsewhere(t *testing.T, r row) {
	t.Helper()
	require.NotEmpty(t, r.why)
	if r.test == "" {
		return // a picture, or what no program can check: the reason says so
	}
	folder, name, ok := strings.Cut(r.test, " ")
	require.True(t, ok, r.test)
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return
		}
	}
	t.Errorf("there is no test %s in %s", name, folder)
}
