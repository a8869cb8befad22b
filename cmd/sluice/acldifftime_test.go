package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What tunnels have to carry is compared by region, wherever the line stands.
func TestACLDiffProtocols(t *testing.T) {
	const head = "0 opened, 0 closed\n%s\nwhat tunnels have to carry (--tunnel-check):\n"
	tests := []struct {
		status, implies int
		out             string
		old, now        string
	}{
		{1, 1, "  loosened by line 1 127.0.0.1:18999: tunnels carry anything instead of tls  port 18999  127.0.0.1:18999\n",
			"127.0.0.0/8:18999 #@ protocol=tls\n", "127.0.0.1:18999 #@ protocol=any\n127.0.0.0/8:18999 #@ protocol=tls\n"},
		{1, 1, "  loosened by line 1 x.a.com:22: tunnels carry anything instead of tls  port 22  x.a.com:22=0.0.0.0\n",
			"*.a.com:22 #@ protocol=tls\n", "x.a.com:22 #@ protocol=any\n*.a.com:22 #@ protocol=tls\n"},
		{1, 1, "  loosened by line 1 a.com:22: tunnels carry anything instead of tls  port 22  a.com:22=0.0.0.0\n",
			"a.com:22 #@ protocol=tls\n", "a.com:22 #@ protocol=any\n"},
		{1, 0, "  tightened by line 1 a.com: tunnels carry ssh instead of anything  port any  a.com:443=0.0.0.0\n",
			"a.com #@ protocol=any\n", "a.com #@ protocol=ssh\n"},
		{1, 1, "tightened by line 1 a.com: tunnels carry ssh instead of anything, TLS by its name only port 1-442,444-65535 a.com:80=0.0.0.0\nloosened by line 1 a.com: tunnels carry ssh instead of tls port 443 a.com:443=0.0.0.0\n",
			"a.com\n", "a.com #@ protocol=ssh\n"},
	}
	for _, tt := range tests {
		old, now := write(t, "old", tt.old), write(t, "new", tt.now)
		status, out, err := sluice(t, nil, "", "acl", "diff", "--guard", "off", old, now)
		assert.Equal(t, strings.Join(strings.Fields(fmt.Sprintf(head, "")+tt.out), " "), strings.Join(strings.Fields(out), " "), err)
		assert.Equal(t, tt.status, status, out)
		status, _, _ = sluice(t, nil, "", "acl", "diff", "--guard", "off", "--implies", old, now)
		assert.Equal(t, tt.implies, status, out)
		_, out, _ = sluice(t, nil, "", "acl", "diff", "--guard", "off", "--json", old, now)
		var v any
		require.NoError(t, json.Unmarshal([]byte(out), &v))
		text, wrong := os.ReadFile("../../docs/schema/acl-diff.json")
		require.NoError(t, wrong)
		var schema map[string]any
		require.NoError(t, json.Unmarshal(text, &schema))
		conforms(t, "acl-diff", v, schema, schema)
	}
}

// Rules expire: what is open for longer, or for shorter, is found on the day on which it shows.
func TestACLDiffExpiries(t *testing.T) {
	tests := []struct {
		status, implies int
		out             string
		old, now        string
	}{
		{1, 1, "1 opened, 0 closed\nline 1 a.com: expires never instead of 2027-11-29\n\nopened from 2027-11-30 on by line 1 a.com\n  was default  port any  a.com:443=1.0.0.0\n",
			"a.com #@ expires=2027-11-29\n", "a.com\n"},
		{1, 1, "1 opened, 0 closed\nline 1 a.com: expires 2027-12-05 instead of 2027-11-29\n\nopened from 2027-11-30 on by line 1 a.com\n  was default  port any  a.com:443=1.0.0.0\n",
			"a.com #@ expires=2027-11-29\n", "a.com #@ expires=2027-12-05\n"},
		{1, 0, "0 opened, 1 closed\nline 1 a.com: expires 2027-11-29 instead of never\n\nclosed from 2027-11-30 on by default\n  was line 1 a.com  port any  a.com:443=1.0.0.0\n",
			"a.com\n", "a.com #@ expires=2027-11-29\n"},
		{1, 1, "1 opened, 0 closed\n\nopened from 2027-11-30 on by line 2 *.com\n  was line 2 !x.com  port any  x.com:443=1.0.0.0\n",
			"*.com #@ expires=2027-11-29\n!x.com\n*.com\n", "*.com #@ expires=2027-11-29\n*.com\n"},
		{1, 0, "0 opened, 0 closed\nline 1 !a.com: expires never instead of 2027-11-29\n", "!a.com #@ expires=2027-11-29\n", "!a.com\n"},
		{1, 0, "0 opened, 0 closed\n#@ end, the last line before, is lost\n", "a.com\n#@ end\n", "a.com\n"},
		{0, 0, "equivalent: both lists decide alike on every target\n", "a.com\n", "a.com\n#@ end\n"},
		{1, 0, "0 opened, 0 closed\nassert deny *.b.com, in line 2 before, is lost\n", "a.com\n#@ assert deny *.b.com\n", "a.com\n"},
		{0, 0, "equivalent: both lists decide alike on every target\n", "a.com #@ expires=2027-11-29\n", "a.com #@ expires=2027-11-29 owner=x\n"},
	}
	for _, tt := range tests {
		old, now := write(t, "old", tt.old), write(t, "new", tt.now)
		status, out, err := sluice(t, nil, "", "acl", "diff", "--at", "2026-11-29", old, now)
		assert.Equal(t, tt.out, out, err)
		assert.Equal(t, tt.status, status, out)
		status, _, _ = sluice(t, nil, "", "acl", "diff", "--at", "2026-11-29", "--implies", old, now)
		assert.Equal(t, tt.implies, status, out)
		status, _, _ = sluice(t, nil, "", "acl", "diff", "--configs", "--at", "2026-11-29", "--implies", write(t, "old.yaml", "rulesFile: "+old+"\n"), write(t, "new.yaml", "rulesFile: "+now+"\n"))
		assert.Equal(t, tt.implies, status, out)
		status, out, _ = sluice(t, nil, "", "acl", "diff", "--configs", "--at", "2026-11-29", write(t, "old.yaml", "rulesFile: "+old+"\n"), write(t, "new.yaml", "rulesFile: "+now+"\n"))
		assert.Equal(t, tt.status, status, out)
	}
	const rules = "rules: 'a.com #@ expires=2027-11-29'\n"
	status, out, err := sluice(t, nil, "", "acl", "diff", "--configs", "--at", "2026-11-29", "--implies", write(t, "old.yaml", rules), write(t, "new.yaml", rules+"expired: keep\n"))
	assert.Equal(t, 1, status, err)
	assert.Contains(t, out, "expired: keep instead of close\n")
	assert.Contains(t, out, "opened from 2027-11-30 on by line ")
}
