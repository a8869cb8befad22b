package config

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func TestLearn(t *testing.T) {
	t.Parallel()
	target, err := acl.ParseTarget("a.test:443")
	require.NoError(t, err)
	denied, err := acl.ParseTarget("no.test:443")
	require.NoError(t, err)

	p, err := given{args: []string{"--learn"}}.load(t)
	require.NoError(t, err, "no rules are needed")
	require.Nil(t, p.Policy)
	require.Equal(t, acl.Allow, p.Learned.WithGuard(acl.Guard{Mode: acl.GuardOff}).DecideHost(target).Verdict)
	require.Equal(t, "line 1 of --learn *", p.Learned.WithGuard(acl.Guard{Mode: acl.GuardOff}).DecideHost(target).Reason(), "without rules, too")
	require.Len(t, p.Warnings, 1)
	require.Equal(t, "--learn: what no rule denies is allowed, and recorded in the access log: sluice acl suggest makes rules of that; put them in force, and take this setting away", p.Warnings[0].Error())

	p, err = given{args: []string{"--config=/c"}, files: map[string]string{"/c": "learn: true\nrules: |\n  #@ assert deny 10.0.0.0/8\n  !no.test\n"}}.load(t)
	require.NoError(t, err, "assertions are of the rules")
	off := acl.Guard{Mode: acl.GuardOff}
	require.Equal(t, "line 1 of --learn *", p.Learned.WithGuard(off).DecideHost(target).Reason())
	require.Equal(t, acl.Deny, p.Learned.DecideHost(denied).Verdict, "deny rules stay in force")
	require.Equal(t, "/c:1: ", p.Warnings[0].Error()[:6])

	p, err = given{args: []string{"--config=/c"}, files: map[string]string{"/c": "learn: true\ntenants:\n- {name: a, clients: 10.0.0.0/8, rules: '!no.test'}\n"}}.load(t)
	require.NoError(t, err)
	require.Nil(t, p.Learned, "clients of no tenant are refused as before")
	require.Equal(t, 2, p.Tenants[0].Learned.Len())

	for _, args := range [][]string{{"--learn", "--access-log=off"}, {"--learn", "--access-log-format=combined"}} {
		_, err = given{args: args}.load(t)
		require.EqualError(t, err, "--learn: what is learned stands in the access log: write one (--access-log), as json or squid (--access-log-format)")
	}
	p, err = given{args: []string{"--learn=false"}, env: []string{"EGRESS_HTTP_PROXY_DESTINATION=*"}}.load(t)
	require.NoError(t, err)
	require.Nil(t, p.Learned)
}
