package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Of the requests of a log those are shown that are asked for.
func TestACLDiffLogOnly(t *testing.T) {
	log := write(t, "log", `{"target":"a.com:443","verdict":"allow","address":"192.0.2.1:443"}
{"target":"b.com:443","verdict":"deny","reason":"default"}
`)
	old, now := write(t, "old", "a.com\n"), write(t, "new", "b.com\n")
	for flag, want := range map[string]string{"--only-opened": "b.com", "--only-closed": "a.com"} {
		_, out, err := sluice(t, nil, "", "acl", "diff", flag, "--log", log, old, now)
		_, requests, ok := strings.Cut(out, "requests of the log")
		require.True(t, ok, out, err)
		for _, name := range []string{"a.com", "b.com"} {
			assert.Equal(t, name == want, strings.Contains(requests, name), "%s: %s", flag, out)
		}
	}
}
