package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
)

var update = flag.Bool("update", false, "write tables into docs")

// The table of settings in docs/settings.md is made from the settings themselves.
func TestProxySettings(t *testing.T) {
	checkSettings(t, filepath.Join("..", "..", "docs", "settings.md"), config.ProxySettings())
}

// The one in docs/tcp.md too.
func TestTCPSettings(t *testing.T) {
	checkSettings(t, filepath.Join("..", "..", "docs", "tcp.md"), config.TCPSettings())
}

func checkSettings(t *testing.T, path string, all []settings.Setting) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	const from, to = "<!-- settings: go test ./cmd/sluice -update -->\n", "<!-- /settings -->"
	before, rest, ok := strings.Cut(string(b), from)
	require.True(t, ok, path+" has lost its marker")
	_, after, ok := strings.Cut(rest, to)
	require.True(t, ok, path+" has lost its marker")
	want := before + from + settingsTable(all) + to + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, string(b), "run go test ./cmd/sluice -update")
}

func settingsTable(all []settings.Setting) string {
	var b strings.Builder
	b.WriteString("| flag | variable | key in the file | default | means | a change wants |\n| --- | --- | --- | --- | --- | --- |\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, s := range all {
		flag := ""
		if s.Flag != "" {
			flag = "--" + s.Flag
			if s.Value != "" {
				flag += " " + s.Value
			}
		}
		env := code(s.Env)
		if s.Egress != "" {
			env = strings.TrimPrefix(env+", "+code(s.Egress), ", ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", code(flag), env, code(s.Key), code(s.Default), strings.ReplaceAll(s.Help, "|", "\\|"), s.Change)
	}
	return b.String()
}
