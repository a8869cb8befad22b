package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Who a client is, is what tenants are given by.
func TestACLDiffWho(t *testing.T) {
	dir := t.TempDir()
	ca, other := nettest.NewCA(t), nettest.NewCA(t)
	cert, key := nettest.WriteFiles(t, dir, "own", ca.Issue("127.0.0.1"))
	for name, text := range map[string]string{
		"ca": string(ca.PEM), "other": string(other.PEM), "users": "bob:$2y$10$" + strings.Repeat("a", 53) + "\n", "others": "bob:$2y$10$" + strings.Repeat("b", 53) + "\n",
		"more": "ann:$2y$10$" + strings.Repeat("a", 53) + "\neve:$2y$10$" + strings.Repeat("a", 53) + "\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	base := "rules: '*'\nlistenTLS: ':8443'\ntlsCert: " + cert + "\ntlsKey: " + key + "\nclientCA: " + dir + "/ca\nusersFile: " + dir + "/users\nauthenticate: required\n"
	for _, tt := range []struct {
		implies int
		want    string
		now     string
	}{
		{1, "proxyProtocolFrom: 10.0.0.0/8 instead of none\n", base + "proxyProtocolFrom: 10.0.0.0/8\n"},
		{1, "clientCA: certificates of clients are believed of other CAs than before\n", strings.Replace(base, "/ca\n", "/other\n", 1)},
		{1, "clientCA: certificates of clients are not asked for any more\n", strings.Replace(base, "clientCA: "+dir+"/ca\n", "", 1)},
		{1, "users with another password, or the hash of it made anew: bob\n", strings.Replace(base, "/users\n", "/others\n", 1)},
		{1, "new users: ann, eve\nusers that are gone: bob\n", strings.Replace(base, "/users\n", "/more\n", 1)},
		{1, "users that are gone: bob\nclients are asked who they are: off instead of required\n", strings.Replace(strings.Replace(base, "usersFile: "+dir+"/users\n", "", 1), "required", "off", 1)},
		{1, "directory: /run/d instead of none\n", base + "directory: /run/d\n"},
		{1, "listenSOCKS: :1080 instead of none\n", base + "listenSOCKS: ':1080'\n"},
		{1, "onRevoke: keep instead of close\n", base + "onRevoke: keep\n"},
		{0, "upstreamCA: other certificates than before\n", base + "upstreamCA: " + dir + "/ca\n"},
		{0, "tenant default: at once any number of connections, 5 connections of one client, 100 handshakes of one client a second, any number of requests a second, a burst of 0 instead of ", base + "maxConnsPerClient: 5\n"},
		{0, "any number of connections of one client, 20 handshakes of one client a second, any number of requests a second, a burst of 0 instead of ", base + "maxHandshakesPerClient: 20\n"},
		{0, "equivalent: ", base + "maxFields: 300\n"},
	} {
		old, now := write(t, "old.yaml", base), write(t, "new.yaml", tt.now)
		status, out, err := sluice(t, nil, "", "acl", "diff", "--configs", old, now)
		assert.Contains(t, out, tt.want, err)
		assert.Equal(t, !strings.HasPrefix(tt.want, "equivalent"), status == 1, out)
		status, _, _ = sluice(t, nil, "", "acl", "diff", "--configs", "--implies", old, now)
		assert.Equal(t, tt.implies, status, out)
	}
	for _, s := range config.ProxySettings() {
		assert.NotZero(t, bearing[s.Name()], "%s: say in acldiffwho.go what it means to a comparison", s.Name())
	}
}
