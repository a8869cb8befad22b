package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A line that never decides is as serious in SARIF as in annotations, and a file's name is a URI.
func TestLintSARIF(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%#.txt")
	require.NoError(t, os.WriteFile(path, []byte("x.com\n!x.com\n"), 0o600))
	_, out, _ := sluice(t, nil, "", "acl", "lint", "--format", "sarif", path)
	var log struct {
		Runs []struct {
			Results []struct {
				RuleID    string `json:"ruleId"`
				Level     string
				Locations []struct {
					PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &log), out)
	require.Len(t, log.Runs[0].Results, 1)
	r := log.Runs[0].Results[0]
	assert.Equal(t, []string{"never-decides", "warning", filepath.Dir(path) + "/a%20b%25%23.txt"}, []string{r.RuleID, r.Level, r.Locations[0].PhysicalLocation.ArtifactLocation.URI})

	status, out, err := sluice(t, nil, "", "acl", "lint", "--format", "sarif", "--json", path)
	assert.Equal(t, []any{2, "", "--json and --format sarif are both given; keep one of them\n"}, []any{status, out, err})
}
