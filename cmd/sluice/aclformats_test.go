package main

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/cli"
)

// A report for GitLab knows a finding again when others come and go in front of it, and tells lines alike apart.
func TestACLLintGitLab(t *testing.T) {
	type issue struct {
		Description, Fingerprint, Severity string
		CheckName                          string `json:"check_name"`
		Location                           struct {
			Path  string
			Lines struct{ Begin int }
		}
	}
	dir := t.TempDir()
	t.Chdir(dir)
	report := func(text string) (all []issue) {
		require.NoError(t, os.WriteFile("rules.txt", []byte(text), 0o600))
		status, out, err := sluice(t, nil, "", "acl", "lint", "--format", "gitlab", "./rules.txt")
		require.NoError(t, json.Unmarshal([]byte(out), &all), out+err)
		require.Equal(t, min(len(all), 1), status)
		return all
	}
	require.Empty(t, report("*.example.com\n"))
	a := report("*.example.com\n!ads.example.com\n!ads.example.com\nregistry\n")
	require.Len(t, a, 3)
	assert.Equal(t, "never-decides", a[0].CheckName)
	assert.Equal(t, "major", a[0].Severity)
	assert.Equal(t, "minor", a[2].Severity)
	assert.Equal(t, "rules.txt", a[0].Location.Path)
	assert.Equal(t, 2, a[0].Location.Lines.Begin)
	assert.Contains(t, a[0].Description, "never decides")
	assert.NotEqual(t, a[0].Fingerprint, a[1].Fingerprint)
	b := report("# why\n*.example.com\n!ads.example.com\nregistry\n")
	require.Len(t, b, 2)
	assert.Equal(t, []string{a[0].Fingerprint, a[2].Fingerprint}, []string{b[0].Fingerprint, b[1].Fingerprint})
}

// What is printed with --json is as docs/schema has it.
func TestAuditSchemas(t *testing.T) {
	old := write(t, "old", "#@ owner=web ticket=T\n*.test:80\n")
	now := write(t, "new", "a.test:443 #@ protocol=tls\n*.test:80\n!b.test:80\n10.0.0.5\n*.com\n")
	log := write(t, "log", `{"target":"a.test:443"}
{"time":"2026-11-21T04:05:06Z","target":"b.test:443","verdict":"allow","address":"192.0.2.1:443","shadow":"deny"}
{"target":"c.test:443","verdict":"deny","reason":"guard loopback"}
{"target":"d.test:443","verdict":"deny","reason":"default"}
{"target":"e.test:443","verdict":"allow","error":"dns_error"}
{"target":"/"}
`)
	for _, args := range [][]string{
		{"acl-diff", "acl", "diff", "--json", "--log", log, old, now},
		{"acl-lint", "acl", "lint", "--json", now},
		{"acl-diff-configs", "acl", "diff", "--configs", "--json", write(t, "old.yaml", oldTenants), write(t, "new.yaml", newTenants)},
		{"acl-suggest", "acl", "suggest", "--json", "--log", log},
		{"acl-explain", "acl", "explain", "--json", "--rules", now, "b.test:80=192.0.2.1"},
		{"acl-test", "acl", "test", "--json", "--rules", old, "--rules", now, "b.test:80=192.0.2.1"},
		{"convert", "convert", "squid", "--json", write(t, "empty.conf", "")},
		{"convert", "convert", "squid", "--json", write(t, "squid.conf", "acl a src 10.0.0.0/8\nacl b dstdomain .test\nhttp_access allow a b\ntcp_outgoing_address 192.0.2.1 a\ncache_peer p parent 1 2\n")},
		{"convert", "convert", "haproxy", "--json", write(t, "haproxy.cfg", "listen l\n mode tcp\n bind :1\n balance leastconn\n server a a.test:1 check send-proxy backup\n")},
		{"convert", "convert", "smokescreen", "--json", convertData + "others/acl.smokescreen.yaml"},
	} {
		name := args[0]
		text, err := os.ReadFile("../../docs/schema/" + name + ".json")
		require.NoError(t, err)
		var schema map[string]any
		require.NoError(t, json.Unmarshal(text, &schema))
		_, out, _ := sluice(t, nil, "", args[1:]...)
		var v any
		require.NoError(t, json.Unmarshal([]byte(out), &v), out)
		conforms(t, name, v, schema, schema)
	}
}

// conforms holds a value against as much of JSON Schema as those use.
func conforms(t *testing.T, path string, v any, schema, root map[string]any) {
	if ref, ok := schema["$ref"].(string); ok {
		schema = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if enum, ok := schema["enum"].([]any); ok {
		assert.True(t, slices.Contains(enum, v), "%s: %v is none of %v", path, v, enum)
	}
	switch v := v.(type) {
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		for key, value := range v {
			of, ok := properties[key].(map[string]any)
			if assert.True(t, ok, "%s.%s is not in the schema", path, key) {
				conforms(t, path+"."+key, value, of, root)
			}
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			assert.Contains(t, v, key, path)
		}
	case []any:
		assert.Equal(t, "array", schema["type"], path)
		for _, item := range v {
			conforms(t, path+"[]", item, schema["items"].(map[string]any), root)
		}
	case bool:
		assert.Equal(t, "boolean", schema["type"], path)
	case float64:
		assert.Equal(t, "integer", schema["type"], path)
	case string:
		assert.True(t, schema["type"] == "string" || schema["enum"] != nil, path)
	default:
		t.Errorf("%s: %v", path, v)
	}
}

// On a terminal, which /dev/null is as far as can be asked, each of the commands has colours, unless NO_COLOR is set.
func TestACLColours(t *testing.T) {
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer terminal.Close()
	t.Setenv("NO_COLOR", "")
	for _, out := range []io.Writer{terminal, &cli.Output{To: terminal}} {
		assert.Equal(t, "\x1b[31mopened\x1b[0m", colours(streams{out: out})("opened", "opened"))
		assert.Equal(t, "redundant", colours(streams{out: out})("", "redundant"))
	}
	for _, out := range []io.Writer{&strings.Builder{}, &cli.Output{To: &strings.Builder{}}} {
		assert.Equal(t, "opened", colours(streams{out: out})("opened", "opened"))
	}
	t.Setenv("NO_COLOR", "1")
	assert.Equal(t, "opened", colours(streams{out: &cli.Output{To: terminal}})("opened", "opened"))
}
