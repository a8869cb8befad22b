package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Two files are compared as they are, whoever asks; and a question about one file says what it takes from elsewhere.
func TestWhatTheEnvironmentHasToDoWithFiles(t *testing.T) {
	old, now := write(t, "old.yaml", "rules: a.test\n"), write(t, "new.yaml", "rules: b.test\n")
	none := write(t, "none.yaml", "guard: strict\n")
	inspect := write(t, "inspect.yaml", "rules: a.test\ninspect:\n  hosts:\n  - host: a.test\n    requests: GET /\n")
	const hidden = "EGRESS_HTTP_PROXY_DESTINATION=*"
	says := func(file, names string) string {
		return file + ": the environment is read too, as sluice proxy reads it, and wins: " + names + "\n"
	}
	for _, tt := range []struct {
		status   int
		out, err string
		environ  []string
		args     []string
	}{
		{1, "tenant default: 1 opened, 1 closed\n", "", []string{hidden}, []string{"acl", "diff", "--configs", old, now}},
		{1, "tenant default: 1 opened, 1 closed\n", "", []string{"SLUICE_GUARD=odd", "SLUICE_NONE=1"}, []string{"acl", "diff", "--configs", old, now}},
		{2, "", none + ", read without the environment (--environment reads it too):\nEGRESS_HTTP_PROXY_DESTINATION: No EGRESS_HTTP_PROXY_DESTINATION specified", []string{hidden}, []string{"acl", "diff", "--configs", old, none}},
		{0, "equivalent: ", says(old, "EGRESS_HTTP_PROXY_DESTINATION") + says(now, "EGRESS_HTTP_PROXY_DESTINATION"), []string{hidden}, []string{"acl", "diff", "--configs", "--environment", old, now}},
		{2, "", "--environment is about configurations: write --configs too\n", nil, []string{"acl", "diff", "--environment", old, now}},
		{2, "", "--guard and --configs are both given: a configuration says the guard; keep one of them\n", nil, []string{"acl", "diff", "--configs", "--guard", "off", old, now}},

		{0, "allow  b.test:443", says(old, "EGRESS_HTTP_PROXY_DESTINATION, SLUICE_GUARD"), []string{hidden, "SLUICE_GUARD=off", "EGRESS_INTERFACE=eth0"}, []string{"acl", "explain", "--config", old, "b.test"}},
		{1, "deny  b.test:443", "", nil, []string{"acl", "explain", "--config", old, "b.test"}},
		{0, "allow\tb.test:443\tline 1 *", says(old, "EGRESS_HTTP_PROXY_DESTINATION"), []string{hidden}, []string{"acl", "test", "--config", old, "b.test=192.0.2.1"}},
		{1, "resolves-all", says(old, "EGRESS_HTTP_PROXY_DESTINATION"), []string{"EGRESS_HTTP_PROXY_DESTINATION=192.0.2.0/24"}, []string{"acl", "lint", "--config", old}},
		{0, "", says(none, "EGRESS_HTTP_PROXY_DESTINATION"), []string{hidden}, []string{"acl", "hash", "--config", none}},
		{0, "allow\tGET https://a.test/", says(inspect, "SLUICE_GUARD"), []string{"SLUICE_GUARD=off"}, []string{"inspect", "test", inspect, "GET https://a.test/"}},
		{2, "", "--guard and --config are both given: a configuration says the guard; keep one of them\n", nil, []string{"acl", "test", "--config", old, "--guard", "off", "a.test"}},
		{2, "", "--guard and --config are both given", nil, []string{"acl", "explain", "--config", old, "--guard", "off", "a.test"}},
		{2, "", "--guard and --config are both given", nil, []string{"acl", "lint", "--config", old, "--guard", "off"}},
		{2, "", "--guard and --config are both given", nil, []string{"acl", "hash", "--config", old, "--guard", "off"}},
		{1, "deny\ta.test:443\t", "", nil, []string{"acl", "test", "--config", old, "--own", "198.51.100.7", "a.test=198.51.100.7"}},
	} {
		status, out, err := sluice(t, tt.environ, "", tt.args...)
		assert.Equal(t, tt.status, status, "%v: %s%s", tt.args, out, err)
		assert.Contains(t, out, tt.out, tt.args)
		if assert.Contains(t, err, tt.err, tt.args); tt.err == "" {
			assert.Empty(t, err, tt.args)
		}
	}
}
