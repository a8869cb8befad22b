package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMigrationWalk: the page's pod, with the slip that it tells of, is told of as it shows.
func TestMigrationWalk(t *testing.T) {
	page, err := os.ReadFile("../../docs/migrate.md")
	require.NoError(t, err)
	_, block, ok := strings.Cut(string(page), "```diff\n")
	require.True(t, ok)
	block, _, _ = strings.Cut(block, "```")
	var pod strings.Builder
	for line := range strings.Lines(block) {
		if line[0] != '+' {
			pod.WriteString(line[1:])
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "egress-1.yaml"), []byte(strings.Replace(pod.String(), "192.168.2.1\n", "10.0.0.300\n", 1)), 0o600))
	t.Chdir(dir)
	status, out, _ := sluice(t, nil, "", "migrate", "--check", "egress-1.yaml")
	assert.Equal(t, 1, status)
	assert.Contains(t, string(page), "$ sluice migrate --check egress-1.yaml\n"+out+"```")
}
