//go:build linux

package peers

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

// Every line of a list is a rule of its own, and none but the last decides.
func TestRuleText(t *testing.T) {
	const n = 4000
	text := RuleText(n)
	rules := strings.Fields(text)
	require.Len(t, rules, n)
	seen := map[string]bool{}
	for _, r := range rules {
		r = strings.TrimPrefix(r, "!")
		assert.False(t, seen[r], "%s is there twice", r)
		seen[r] = true
	}
	p, err := acl.Parse(text)
	require.NoError(t, err)
	target, err := acl.ParseTarget("127.0.0.2:80")
	require.NoError(t, err)
	d := p.DecideHost(target)
	assert.Equal(t, acl.Allow, d.Verdict)
	assert.Equal(t, n, d.Rule)
}

func TestSquidRules(t *testing.T) {
	text := squidRules(8)
	assert.Contains(t, text, "acl dest1 dstdomain .d0.example.com\nhttp_access deny dest1\n")
	assert.Contains(t, text, "acl dest4 dstdomain h3.example.org\nhttp_access allow dest4\n")
	assert.Contains(t, text, "acl dest5 dst 11.0.0.4\nhttp_access deny dest5\n")
	assert.True(t, strings.HasSuffix(text, "acl dest8 dst 127.0.0.0/8\nhttp_access allow dest8\nhttp_access deny all\n"))
}

// Each proxy's configuration is made for the port, and for nobody but this machine.
func TestCommands(t *testing.T) {
	for _, p := range append(All("bin"), Sluice("sluice", "bin/sluice")) {
		for _, w := range []Work{Gets, Tunnels, TCP} {
			s := Setup{Work: w, Dir: t.TempDir(), Port: 34567, Admin: 34568, Target: "127.0.0.2:80", Rules: 3, Resolver: "127.0.0.53"}
			argv, _, err := p.Command(s)
			if !p.Does(w) {
				assert.Error(t, err, p.Name)
				continue
			}
			require.NoError(t, err, p.Name)
			all := strings.Join(argv, " ")
			for _, a := range argv {
				if b, err := os.ReadFile(a); err == nil {
					all += string(b)
				}
			}
			if p.Name != trafficserver.Name { // its port stands below the folder
				assert.Contains(t, all, "34567", p.Name)
				assert.Contains(t, all, "127.0.0.1", p.Name)
			}
		}
	}
}
