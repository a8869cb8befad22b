package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// What has expired allows nothing any more, without a reload, and the hash stays; with keep it
// goes on.
func TestRulesExpire(t *testing.T) {
	day := time.Now().UTC().Format(time.DateOnly) // the last on which it holds
	load := func(env ...string) *config.Proxy {
		c, err := config.LoadProxy(settings.Input{Environ: append(env, "EGRESS_HTTP_PROXY_DESTINATION=a.test #@ expires="+day+" owner=x\nb.test")})
		require.NoError(t, err)
		return c
	}
	target, err := acl.ParseTarget("a.test:80")
	require.NoError(t, err)
	allowed := func(m *renewals) bool {
		return m.all[len(m.all)-1].Tenant(netip.Addr{}).Rules.DecideHost(target).Verdict != acl.Deny
	}
	for _, keep := range []bool{false, true} {
		var said bytes.Buffer
		m := &renewals{}
		c := load()
		c.KeepExpired = keep
		d := &daemon[*config.Proxy]{running: &running{log: slog.New(slog.NewTextHandler(&said, nil))}, mode: m, config: c}
		d.changes.contain = func(f func()) { f() }
		d.renew(nil)
		require.True(t, allowed(m))
		d.expire()
		assert.Len(t, m.all, 1, "its day has not passed")
		before := d.named.get()
		now := d.named.built.Add(24 * time.Hour)
		d.clock = func() time.Time { return now }
		d.expire()
		assert.Equal(t, keep, allowed(m))
		assert.Equal(t, before.Hash, d.named.get().Hash)
		if keep {
			assert.Len(t, m.all, 1)
			assert.Contains(t, said.String(), `msg="a rule has expired, and still allows, since what has expired is kept" rule="line 1 a.test, valid through `+day+`"`)
			said.Reset()
			d.expire()
			assert.Empty(t, said.String(), "once")
			d.endExpiry()
			continue
		}
		assert.Equal(t, before.Number+1, d.named.get().Number)
		assert.Equal(t, 2, m.revoked)
		assert.Contains(t, said.String(), `msg="a rule has expired, and allows nothing any more" rule="line 1 a.test, valid through `+day+`"`)
		d.expire()
		assert.Len(t, m.all, 2, "once")
		d.endExpiry()
	}
}

// An assertion that only an expiry has broken is told of, and counted, when the rules are loaded and when the day has
// passed; rules that are kept break none.
func TestExpiryBreaksAssertions(t *testing.T) {
	day := time.Now().UTC().Format(time.DateOnly)
	load := func(day, expired string) *config.Proxy {
		c, err := config.LoadProxy(settings.Input{Environ: []string{"SLUICE_EXPIRED=" + expired,
			"EGRESS_HTTP_PROXY_DESTINATION=a.test #@ expires=" + day + "\n!c.test #@ expires=2026-01-01\n#@ assert allow a.test\n#@ assert deny b.test"}})
		require.NoError(t, err)
		return c
	}
	const wrong = "'assert allow a.test' does not hold: default denies a.test:443="
	said := func(c *config.Proxy) string { return fmt.Sprint(c.Warnings) }
	before := load("2026-01-01", "close")
	assert.Equal(t, 1, before.Broken)
	assert.Contains(t, said(before), wrong)
	assert.Contains(t, said(before), "'a.test' has expired on 2026-01-01, and allows nothing any more")
	assert.Contains(t, said(before), "'!c.test' has expired on 2026-01-01, and still denies")
	kept := load("2026-01-01", "keep")
	assert.Equal(t, 0, kept.Broken)
	assert.NotContains(t, said(kept), wrong)
	assert.Contains(t, said(kept), "'a.test' has expired on 2026-01-01, and still allows, since what has expired is kept")

	c := load(day, "close")
	assert.Equal(t, 0, c.Broken)
	var log bytes.Buffer
	d := &daemon[*config.Proxy]{running: &running{log: slog.New(slog.NewTextHandler(&log, nil))}, mode: &renewals{}, config: c}
	looked := make(chan bool)
	d.changes.contain = func(f func()) { f(); close(looked) }
	d.named.loaded(c.Shared())
	d.renew(nil)
	now := d.named.built.Add(24 * time.Hour)
	d.clock = func() time.Time { return now }
	d.expire()
	<-looked
	assert.Equal(t, 1, d.named.brokenNow())
	assert.Contains(t, log.String(), wrong)
	d.named.loaded(load("2999-01-01", "close").Shared())
	d.named.verify(d.log, c.Shared(), now)
	assert.Equal(t, 0, d.named.brokenNow(), "of rules that are not in force any more nothing is said")
	d.endExpiry()
}

// page is what the admin port answers.
func (d *process) page(path string) string {
	d.t.Helper()
	resp, err := http.Get("http://" + d.admin + path)
	require.NoError(d.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	return string(b)
}

// policy is what GET /api/policy answers.
func (d *process) policy() (p admin.Policy) {
	d.t.Helper()
	require.NoError(d.t, json.Unmarshal([]byte(d.page("/api/policy")), &p))
	return p
}

// What is in force has a number and a hash, everywhere; a reload makes the next, and what says
// the same in other words has the same hash.
func TestPolicyIsNamed(t *testing.T) {
	d := startDaemon(t, "proxy", nil, nil)
	first := d.policy()
	assert.EqualValues(t, 1, first.Generation)
	assert.Len(t, first.Hash, 64)
	d.put(d.rules(), text("# the same in other words\n127.1.2.3/8"))
	nettest.Eventually(t, "it is in force", func() bool { return d.policy().Generation == 2 })
	assert.Equal(t, first.Hash, d.policy().Hash)
	d.put(d.rules(), text("127.0.0.0/8\nother.test #@ expires=2999-01-01"))
	nettest.Eventually(t, "it is in force", func() bool { return d.policy().Generation == 3 })
	now := d.policy()
	assert.NotEqual(t, first.Hash, now.Hash)
	assert.Equal(t, 2, now.Rules)
	assert.Equal(t, time.Date(2999, 1, 2, 0, 0, 0, 0, time.UTC), *now.Expires)
	assert.Contains(t, d.page("/readyz?verbose"), "policy: generation 3, "+now.Hash[:12]+"\n")
	assert.Contains(t, d.page("/metrics"), `sluice_policy_info{generation="3",policy="`+now.Hash[:12]+`"} 1`)
	assert.Contains(t, d.page("/"), "generation 3, "+now.Hash[:12])
	d.put(d.rules(), text("wrong wrong\n"))
	nettest.Eventually(t, "it is refused", func() bool { return d.policy().Problem != "" })
	assert.EqualValues(t, 3, d.policy().Generation)
	d.send()
	d.signal(syscall.SIGTERM)
	d.exits(0)
	assert.Contains(t, d.read("stdout"), `"generation":3,"policy":"`+now.Hash[:12]+`"`)
}

// A reload ends what it does not admit any more, unless that is to be kept; the modes begin
// otherwise: see modes.md and policy.md.
func TestReloadRevokes(t *testing.T) {
	for _, mode := range modes {
		for _, what := range []string{"", "close", "keep"} {
			t.Run(mode+" "+what, func(t *testing.T) {
				var args []string
				if what != "" {
					args = []string{"--on-revoke", what}
				}
				d := startDaemon(t, mode, nil, nil, args...)
				c := d.open()
				was := d.metric(reloaded)
				if mode == "proxy" {
					d.put(d.rules(), text("!127.0.0.0/8"))
				} else {
					b, err := os.ReadFile(d.file())
					require.NoError(t, err)
					d.put(d.file(), text(strings.Replace(string(b), "127.0.0.1 "+portOf(d.server), "127.0.0.1 1", 1)))
				}
				nettest.Eventually(t, "it is in force", func() bool { return d.metric(reloaded) != was })
				if what == "keep" || what == "" && mode == "tcp" {
					io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
					all, err := io.ReadAll(c)
					require.NoError(t, err)
					assert.Contains(t, string(all), "Connection: close")
					return
				}
				io.ReadAll(c)
				nettest.Eventually(t, "it is logged", func() bool {
					return strings.Contains(d.read("stdout"), `"revoked":`) && strings.Contains(d.read("stdout"), `"revoked_generation":2,"revoked_policy":"`+d.policy().Hash[:12]+`"`)
				})
			})
		}
	}
}
