//go:build linux

package http

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
)

// during runs the gateway with args while f does something, and returns the path of its access log.
func (r *registries) during(t testing.TB, args []string, f func()) (log string) {
	t.Helper()
	g := r.gateway(t, "", args...)
	f()
	g.Signal(syscall.SIGTERM)
	require.Equal(t, 0, g.Exit())
	return filepath.Join(g.Dir, "stdout")
}

// status is what curl gets from a URL by the proxy, be it by the proxy itself.
func (r *registries) status(t testing.TB, url string) string {
	t.Helper()
	got := program.Command(t, r.Client, nil, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{http_connect}", "--proxy", proxyURL, "--cacert", r.CA.File, url)
	return got.Out
}

// From no rules to rules with real clients: what they ask for is learned, suggested, tried beside what is in
// force, and then in force; and nothing else is. docs/learn.md has the walk.
func TestLearnWalk(t *testing.T) {
	r := newRegistries(t)
	all := func() {
		for _, c := range r.clients {
			c.run(t)
		}
	}
	bin := program.Racy(t)
	list := filepath.Join(t.TempDir(), "rules.txt")

	log := r.during(t, []string{"--learn"}, all)
	got := program.Command(t, nil, nil, bin, "acl", "suggest", "--log", log)
	require.Equal(t, 0, got.Status, got.Err)
	require.NoError(t, os.WriteFile(list, []byte(got.Out), 0o600))
	var want, have []string
	for _, c := range r.clients {
		want = append(want, c.hosts...)
	}
	for line := range strings.Lines(got.Out) {
		if rule, _, _ := strings.Cut(line, " #"); !strings.HasPrefix(line, "#") {
			have = append(have, strings.TrimSpace(rule))
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	require.Equal(t, want, have, got.Out)
	for _, command := range []string{"check", "lint"} {
		got = program.Command(t, nil, nil, bin, "acl", command, list)
		assert.Equal(t, 0, got.Status, got.Out+got.Err)
	}

	log = r.during(t, []string{"--learn", "--shadow-rules", list}, all)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.NotEmpty(t, text)
	assert.NotContains(t, string(text), `"shadow"`, "the list would have denied nothing")
	log = r.during(t, []string{"--learn", "--shadow-rules", list}, func() {
		assert.Equal(t, "200 200", r.status(t, "https://"+otherHost+"/"))
	})
	text, err = os.ReadFile(log)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"shadow":"deny","shadow_line":0`)
	got = program.Command(t, nil, nil, bin, "acl", "suggest", "--log", log)
	assert.Contains(t, got.Out, "1 not allowed by the shadow rules")

	r.during(t, []string{"--rules", list}, func() {
		all()
		assert.Equal(t, "000 403", r.status(t, "https://"+otherHost+"/"))
		assert.Equal(t, "403 000", r.status(t, "http://"+otherHost+"/"))
	})
}

// Real clients need no other name than their preset has, and get nothing else by it.
func TestPresetsWithClients(t *testing.T) {
	r := newRegistries(t)
	for _, c := range r.clients {
		t.Run(c.name, func(t *testing.T) {
			r.during(t, []string{"--rules", filepath.Join("..", "..", "deploy", "presets", c.name+".txt")}, func() {
				c.run(t)
				assert.Equal(t, "000 403", r.status(t, "https://"+otherHost+"/"))
			})
		})
	}
}
