//go:build linux

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

var links = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// The index has every page, once.
func TestIndex(t *testing.T) {
	index := read(t, "docs/README.md")
	for _, page := range pages(t) {
		if page == "docs/README.md" {
			continue
		}
		rel, err := filepath.Rel("docs", page)
		assert.NoError(t, err)
		assert.Equal(t, 1, strings.Count(index, "]("+rel+")"), "docs/README.md and %s", page)
	}
}

// What a page leads to is there: the file, and the heading in it.
func TestLinks(t *testing.T) {
	anchors := map[string]map[string]bool{}
	for _, page := range pages(t) {
		anchors[page] = map[string]bool{}
		inBlock := false
		for line := range strings.Lines(read(t, page)) {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				inBlock = !inBlock
			}
			if !inBlock && strings.HasPrefix(line, "#") {
				anchors[page][anchor(line)] = true
			}
		}
	}
	for _, page := range pages(t) {
		for _, m := range links.FindAllStringSubmatch(read(t, page), -1) {
			path, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			_, err := os.Stat(filepath.Join(root, target))
			assert.NoError(t, err, "%s leads to %s", page, m[1])
			if fragment != "" && strings.HasSuffix(target, ".md") {
				assert.True(t, anchors[target][fragment], "%s leads to %s, and there is no such heading", page, m[1])
			}
		}
	}
}

// anchor is what a heading is called in a link.
func anchor(heading string) string {
	s := strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	s = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(s, "")
	return strings.ReplaceAll(s, " ", "-")
}
