package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// presets are the lists of rules in deploy/presets, by their names.
func presets(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("presets/*.txt")
	require.NoError(t, err)
	all := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		all[strings.TrimSuffix(filepath.Base(path), ".txt")] = string(text)
	}
	return all
}

// Each preset says where its names are documented, is whole, allows names on ports, and nothing that lint
// has a word about; so are all of them as one list.
func TestPresets(t *testing.T) {
	all := presets(t)
	var names []string
	var texts []acl.Text
	for name, text := range all {
		names = append(names, name)
		texts = append(texts, acl.Text{Source: name, Text: text})
		p, err := acl.Parse(text)
		require.NoError(t, err, name)
		assert.True(t, p.Whole(), name)
		assert.NotZero(t, p.Len(), name)
		for r := range p.Rules() {
			assert.False(t, r.Deny, "%s: %s", name, r.Text)
			assert.NotEqual(t, acl.FormAddr, r.Form, "%s: %s", name, r.Text)
			assert.NotNil(t, r.Ports, "%s: %s", name, r.Text)
		}
		assert.NotEmpty(t, sources(text), "%s names no source", name)
		lints(t, name, p)
	}
	assert.ElementsMatch(t, []string{"apt", "npm", "pypi", "go", "maven", "crates", "github", "containers"}, names)
	p, err := acl.ParseTexts(texts...)
	require.NoError(t, err)
	lints(t, "all", p)
}

func lints(t *testing.T, name string, p *acl.Policy) {
	t.Helper()
	r := audit.Lint(p, audit.LintOptions{})
	assert.True(t, r.Complete(), name)
	for _, f := range r.Findings {
		t.Errorf("%s:%d: %s: %s", name, f.Rule.Line, f.Kind, f.Msg)
	}
}

// sources are the URLs in the comments in front of the first rule.
func sources(text string) []string {
	return regexp.MustCompile(`(?m)^#\s+(https://\S+)`).FindAllString(text, -1)
}

// A release has them: in the archives, and for hosts where its packages put them.
func TestPresetsAreShipped(t *testing.T) {
	nfpm, err := os.ReadFile("package/nfpm.yaml")
	require.NoError(t, err)
	assert.Contains(t, string(nfpm), `{src: "presets/*.txt", dst: /usr/share/sluice/presets/, file_info: {mode: 0644}}`)
	docs, err := os.ReadFile("../docs/learn.md")
	require.NoError(t, err)
	for name := range presets(t) {
		assert.Contains(t, string(docs), "(../deploy/presets/"+name+".txt)", "docs/learn.md")
	}
}
