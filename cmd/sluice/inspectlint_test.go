package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const lintedConfig = `rules: |
  *.example.com
inspect:
  hosts:
    - host: "*.example.com"
      requests: |
        GET /**
        GET /v1/*
    - host: api.example.com
      requests: "GET /**"
    - host: api.example.com:8443
      requests: |
        !* /admin/**
        *
    - host: api.example.org
      requests: "GET /**"
    - host: 192.0.2.1
      requests: "GET /**"
`

func linted(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	require.NoError(t, os.WriteFile(path, []byte(lintedConfig), 0o600))
	return path
}

// What a configuration says of inspected hosts is looked at, too, in all formats.
func TestLintInspect(t *testing.T) {
	path := linted(t)
	status, out, err := sluice(t, nil, "", "acl", "lint", "--json", "--config", path)
	assert.Equal(t, 1, status, err)
	var got lintOutput
	require.NoError(t, json.Unmarshal([]byte(out), &got), out)
	var have []string
	var lines []int
	for _, f := range got.Findings {
		assert.Equal(t, path, f.File, f.Message)
		if f.Kind != "resolves-all" && f.Kind != "reaches-private" { // of the rules of hosts
			have = append(have, f.Kind+": "+f.Message)
			lines = append(lines, f.Line)
		}
	}
	assert.Equal(t, []string{
		"request-never-decides: request rule 'GET /v1/*': it never decides: line 7, 'GET /**', does before",
		"request-deny-list: request rule '*': it allows all that nobody has thought of to deny; list what is allowed, and leave it out",
		"host-shadowed: what is said of the host api.example.com is never asked: *.example.com in line 5 comes first; put it in front",
		"host-never-allowed: the rules allow nothing of the inspected host api.example.org: what is said of it is never asked; allow it, or leave it out",
		"host-never-allowed: the rules allow nothing of the inspected host 192.0.2.1: what is said of it is never asked; allow it, or leave it out",
	}, have)
	assert.Equal(t, []int{8, 14, 9, 15, 17}, lines)
	_, out, _ = sluice(t, nil, "", "acl", "lint", "--format", "github", "--config", path)
	assert.Contains(t, out, "::warning file="+path+",line=8,title=request-never-decides::request rule 'GET /v1/*'")
	_, out, _ = sluice(t, nil, "", "acl", "lint", "--format", "sarif", "--config", path)
	assert.Contains(t, out, `"ruleId": "host-shadowed"`)
	_, out, _ = sluice(t, nil, "", "acl", "lint", "--format", "gitlab", "--config", path)
	assert.Contains(t, out, `"check_name": "host-shadowed"`)
	status, _, err = sluice(t, nil, "", "acl", "lint", "--config", path, path)
	assert.Equal(t, 2, status)
	assert.Equal(t, "--config and files of rules are both given; keep one of them\n", err)
}

// A request with its method is explained by the request rules, behind the rules of hosts.
func TestExplainRequest(t *testing.T) {
	path := linted(t)
	status, out, err := sluice(t, nil, "", "acl", "explain", "--config", path, "GET https://x.example.com/v1/a")
	assert.Equal(t, 1, status, err) // it depends on the address
	assert.Contains(t, out, "request  allow: request rule "+path+":7 GET /**\n")
	status, out, err = sluice(t, nil, "", "acl", "explain", "--json", "--config", path, "POST https://x.example.com/v1/a")
	assert.Equal(t, 1, status, err)
	var e explained
	require.NoError(t, json.Unmarshal([]byte(out), &e), out)
	assert.Equal(t, "depends", e.Verdict, "of the host")
	assert.Equal(t, &requestAnswer{Request: "POST https://x.example.com/v1/a", Host: "*.example.com", Verdict: "deny", Reason: "no request rule allows it"}, e.Request)
}

// A rule that has expired allows an inspected host nothing, nor does one of another host make it seem so.
func TestLintInspectExpired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	require.NoError(t, os.WriteFile(path, []byte("rules: |\n  old.test #@ expires=2026-01-01\n  no.test #@ expires=2026-01-01\ninspect:\n  hosts:\n  - {host: no.test, requests: \"GET /\\n!GET /\"}\n"), 0o600))
	status, out, err := sluice(t, nil, "", "acl", "lint", "--config", path)
	assert.Equal(t, 1, status, err)
	assert.Contains(t, out, "host-never-allowed: the rules allow nothing of the inspected host no.test")
	assert.Contains(t, out, "request-half-dead: request rule '!GET /': it denies other spellings only")
}
