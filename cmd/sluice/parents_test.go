package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// "sluice acl explain" says by whom a connection goes, and that names are not resolved where they are
// not.
func TestExplainParents(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`rules: |
  !10.0.0.0/8
  *.test
  192.0.2.0/24
parents:
  - {for: "*.name.test", via: "http://n.test:3128", connect: name}
  - {for: 192.0.2.0/24, via: ["https://a.test:3129", "http://b.test:3128", direct]}
tenants:
  - {name: ci, clients: 198.51.100.0/24, rules: "*", parents: [{via: "http://c.test:1"}]}
  - {name: bare, clients: 203.0.113.0/24, rules: "*", parents: []}
`), 0o600))
	for _, tt := range []struct {
		from, target string
		verdict, via string
	}{
		{"", "x.name.test", "allow", "http://n.test:3128; by name: no address is judged"},
		{"", "x.name.test=10.1.1.1", "allow", "http://n.test:3128; by name: no address is judged"},
		{"", "www.test=192.0.2.1", "allow", "https://a.test:3129, then http://b.test:3128, then direct"},
		{"", "www.test=203.0.113.1", "allow", ""},
		{"", "www.test=10.1.1.1", "deny", ""},
		{"", "192.0.2.7", "allow", "https://a.test:3129, then http://b.test:3128, then direct"},
		{"198.51.100.1", "www.test=192.0.2.1", "allow", "http://c.test:1"},
		{"203.0.113.1", "www.test=192.0.2.1", "allow", ""},
	} {
		args := []string{"acl", "explain", "--json", "--config", file, tt.target}
		if tt.from != "" {
			args = append(args, "--from", tt.from)
		}
		_, out, err := sluice(t, nil, "", args...)
		var e explained
		require.NoError(t, json.Unmarshal([]byte(out), &e), "%s %s", out, err)
		assert.Equal(t, tt.verdict, e.Verdict, tt.target)
		assert.Equal(t, tt.via, e.Via, "%s from %s", tt.target, tt.from)
	}
	_, out, _ := sluice(t, nil, "", "acl", "explain", "--config", file, "x.name.test")
	assert.Contains(t, out, "\nvia     http://n.test:3128; by name: no address is judged\n")
	status, out, said := sluice(t, nil, "", "proxy", "--check", "--config", file)
	assert.Zero(t, status)
	assert.Contains(t, out+said, "connect: name has parents resolve the names of *.name.test: nobody judges addresses there, so the guard and 2 rules for addresses, the first in line 2 (!10.0.0.0/8), do not hold for them")
}
