package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table into docs/failover.md")

var page = filepath.Join("..", "..", "docs", "failover.md")

// The table of settings in docs/failover.md is made from the settings themselves.
func TestDocumentedSettings(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	const from, to = "<!-- settings: go test ./cmd/sluice-kube -update -->\n", "<!-- /settings -->"
	before, rest, ok := strings.Cut(string(text), from)
	require.True(t, ok, "the page has lost its marker")
	_, after, ok := strings.Cut(rest, to)
	require.True(t, ok, "the page has lost its marker")
	var table strings.Builder
	table.WriteString("| flag | default | means |\n| --- | --- | --- |\n")
	for _, s := range new(holdConfiguration).settings() {
		def := ""
		if s.Default != "" {
			def = "`" + s.Default + "`"
		}
		fmt.Fprintf(&table, "| `--%s %s` | %s | %s |\n", s.Flag, s.Value, def, s.Help)
	}
	want := before + from + table.String() + to + after
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, string(text), "run go test ./cmd/sluice-kube -update")
}

// Whatever the log may say of a group, the page says what it means.
func TestDocumentedWords(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for kind, w := range words {
		want := "\n| `" + w.message + "` "
		if !quiet(kind) {
			want += "`" + w.reason + "` "
		}
		assert.Contains(t, string(text), want, kind)
	}
}

// The times that the page offers go together, with the default for the rest.
func TestDocumentedTimes(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^\| ([0-9.]+) s \| ([0-9.]+) s \| ([0-9.]+) s \|`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, rows, 3)
	for _, row := range rows {
		_, err := loaded(t, inPod, "--hold-pending", row[1]+"s", "--hold-held", row[2]+"s", "--hold-lease", row[3]+"s")
		assert.NoError(t, err, row[0])
	}
}
