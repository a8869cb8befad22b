package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func rulesOf(t *testing.T, text string) *acl.Policy {
	t.Helper()
	p, err := acl.Parse(text)
	require.NoError(t, err)
	return p
}

// by is what is judged by where tenants have these rules, those of clients of no tenant first.
func by(named ...any) judged {
	s := policy.Set{Rest: policy.Tenant{Name: named[0].(string), Rules: named[1].(*acl.Policy)}}
	for i := 2; i < len(named); i += 2 {
		s.Tenants = append(s.Tenants, policy.Taker{Tenant: policy.Tenant{Name: named[i].(string), Rules: named[i+1].(*acl.Policy)}})
	}
	return judged{set: &s}
}

func TestWhatAReloadHasChanged(t *testing.T) {
	old := rulesOf(t, "!ads.example.com\n*.example.com:443\n10.0.0.0/8 #@ protocol=tls\n")
	now := rulesOf(t, "*.example.com:443\n!ads.example.com\n10.0.0.0/8\nb.test:80\n")
	strict := old.WithGuard(acl.Guard{Mode: acl.GuardStrict})
	r := replaced{generation: 7, rules: true, before: by("", old), now: by("", now)}
	got := r.change()
	require.Len(t, got.Tenants, 1)
	got.At = time.Time{}
	assert.Equal(t, &admin.Change{Generation: 7, Tenants: []admin.TenantChange{{
		Added:   admin.Lines{Count: 2, First: []string{"10.0.0.0/8", "b.test:80"}},
		Removed: admin.Lines{Count: 1, First: []string{"10.0.0.0/8 protocol=tls"}},
		Opened: admin.Lines{Count: 2, First: []string{
			"ads.example.com:443=1.0.0.0  by line 1 *.example.com:443 (was line 1 !ads.example.com)", "b.test:80=1.0.0.0  by line 4 b.test:80 (was default)"}},
		Tunnels: admin.Lines{Count: 1, First: []string{"10.0.0.0:1  by line 3 10.0.0.0/8: carries anything, TLS by its name only instead of tls"}},
	}}}, got)

	same := replaced{rules: true, before: by("", old), now: by("", rulesOf(t, "!ads.example.com\n*.example.com:443\n10.0.0.0/8 #@ protocol=tls\n"))}
	assert.Nil(t, same.change())
	guard := replaced{rules: true, before: by("", old), now: by("", strict)}
	got = guard.change()
	require.NotNil(t, got, "the guard is another, the text is not")
	assert.Zero(t, got.Tenants[0].Added.Count+got.Tenants[0].Removed.Count)
	assert.NotZero(t, got.Tenants[0].Closed.Count)

	// Tenants that come and go, and one that is as all others are.
	tenants := replaced{rules: true, before: by("default", old, "a", old, "gone", now), now: by("default", now, "a", now, "new", old)}
	got = tenants.change()
	var names []string
	for _, c := range got.Tenants {
		names = append(names, fmt.Sprintf("%s +%d -%d", c.Tenant, c.Added.Count, c.Removed.Count))
	}
	assert.Equal(t, []string{"default +2 -1", "new +3 -0", "gone +0 -4"}, names)
}

// Besides rules a reload says what diff --configs says of two files, shortly, and of credentials never what they are.
func TestWhatElseAReloadHasChanged(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"one": "first-secret", "two": "second-secret",
		"users": "bob:$2y$10$" + strings.Repeat("a", 53) + "\n", "more": "ann:$2y$10$" + strings.Repeat("a", 53) + "\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	const base = "source: [192.0.2.7, 192.0.2.1]\nauthenticate: optional\nusersFile: DIR/users\nrules: |\n  *\n  #@ assert allow a.test\ntenants:\n- {name: a, clients: 10.0.0.1, rules: a.test}\n" +
		"inspect:\n  hosts:\n  - host: a.test\n    requests: GET /\n    headers: {Authorization: {file: DIR/one}}\n" +
		"parents:\n- via: [http://p.test:3128]\n"
	load := func(text string) judged {
		c, err := loadAlone(write(t, "sluice.yaml", strings.ReplaceAll(text, "DIR", dir)), streams{})
		require.NoError(t, err)
		s := setOf(c.Shared(), nil, time.Now())
		(&proxyMode{usages: new(tenantUsages)}).tenants(c, &s, time.Now())
		return judgedOf(s, c)
	}
	for _, tt := range []struct{ want, old, new string }{
		{"tenant default: assert allow a.test, in line 6 before, is lost", "  #@ assert allow a.test\n", ""},
		{"new users: ann", "DIR/users", "DIR/more"},
		{"tenant a: its clients are 10.0.0.2/32, and were 10.0.0.1/32", "10.0.0.1", "10.0.0.2"},
		{"tenant b is new; before, its clients were of no tenant, or of another", "inspect:", "- {name: b, clients: 10.0.0.3, rules: a.test}\ninspect:"},
		{"tenant a is gone; its clients are of no tenant, or of another", "tenants:\n- {name: a, clients: 10.0.0.1, rules: a.test}\n", ""},
		{"tenant a: source address 192.0.2.1 instead of 192.0.2.7", "rules: a.test}", "rules: a.test, source: 192.0.2.1}"},
		{"tenant a: at once 5 connections, ", "rules: a.test}", "rules: a.test, limits: {connections: 5}}"},
		{"tenant default: new inspect a.test: POST /", "requests: GET /", "requests: POST /"},
		{"tenant default: inspect a.test: sets Authorization to another value", "DIR/one", "DIR/two"},
		{"tenant default: goes directly, but for every destination via http://q.test:3128 (by address) instead of ", "p.test", "q.test"},
		{"tunnels are checked: enforce instead of off", "authenticate: optional", "tunnelCheck: enforce\nauthenticate: optional"},
		{"clients are asked who they are: required instead of optional", "optional", "required"},
		{"expired: keep instead of close", "authenticate:", "expired: keep\nauthenticate:"},
	} {
		require.Contains(t, base, tt.old)
		r := replaced{generation: 2, rules: true, before: load(base), now: load(strings.Replace(base, tt.old, tt.new, 1))}
		got := r.change()
		require.NotNil(t, got, tt.want)
		assert.Contains(t, strings.Join(got.Other.First, "\n"), tt.want)
		assert.NotContains(t, fmt.Sprint(got), "secret")
	}
	same := replaced{generation: 2, rules: true, before: load(base), now: load(base + "contact: we\n")}
	assert.Nil(t, same.change())
	var users strings.Builder
	for i := range 200 {
		fmt.Fprintf(&users, "user%d:$2y$10$%s\n", i, strings.Repeat("a", 53))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), []byte(users.String()), 0o600))
	many := replaced{before: load(base), now: load(strings.Replace(base, "DIR/users", "DIR/more", 1))}
	for _, line := range many.change().Other.First {
		assert.LessOrEqual(t, len(line), changeLength+len("…"))
	}
}

// What is too large to be compared in the time is not begun, or given up; the lines are told all the same.
func TestChangesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range compareRules + 1 {
		fmt.Fprintf(&b, "h%d.example%d.com:443\n", i, i%100)
	}
	old, now := rulesOf(t, b.String()), rulesOf(t, strings.Replace(b.String(), "h7.", "g7.", 1))
	r := replaced{rules: true, before: by("", old), now: by("", now)}
	got := r.change()
	assert.Equal(t, 1, got.Tenants[0].Added.Count)
	assert.Equal(t, "what that opens and closes is not looked for: there are more than 50000 rules; sluice acl diff does", got.Tenants[0].Note)
	few, others := rulesOf(t, "a.test\nb.test\n"), rulesOf(t, "c.test\n")
	c := tenantChange(few, others, 0)
	assert.Equal(t, 1, c.Added.Count)
	assert.Contains(t, c.Note, "is not known: the time for that was over")
	lines := strings.SplitAfter(b.String(), "\n")
	c = tenantChange(few, rulesOf(t, strings.Join(lines[:20_000], "")), 1)
	assert.Contains(t, c.Note, "is not known whole: ")
}

// Reloads do not wait for what is said of them, and those that come meanwhile are said as one.
func TestReloadsDoNotWaitForTheirChanges(t *testing.T) {
	var said bytes.Buffer // of the goroutine that looks
	free, looked := make(chan struct{}), make(chan struct{}, 10)
	c := &changes{log: slog.New(slog.NewTextHandler(&said, nil)), contain: func(f func()) { <-free; f(); looked <- struct{}{} }}
	list := func(n uint64) judged { return by("", rulesOf(t, fmt.Sprintf("r%d.test\n", n))) }
	for n := uint64(1); n <= 5; n++ {
		c.tell(replaced{generation: n, rules: true, before: list(n - 1), now: list(n)})
	}
	assert.Nil(t, c.latest())
	close(free)
	<-looked
	<-looked
	nettest.Eventually(t, "it is done", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return !c.busy })
	assert.Empty(t, looked, "two in all")
	assert.EqualValues(t, 5, c.latest().Generation)
	assert.Equal(t, []string{"r1.test"}, c.latest().Tenants[0].Removed.First)
	assert.Equal(t, []string{"r5.test"}, c.latest().Tenants[0].Added.First)
	assert.Contains(t, said.String(), `msg="what the reload has changed" generation=1 added=1 added_lines=[r1.test] removed=1 removed_lines=[r0.test] opened=1 `)
	assert.Contains(t, said.String(), "generation=5 ")
}

// The page and the log say it, of both modes.
func TestReloadSaysWhatItHasChanged(t *testing.T) {
	d := startDaemon(t, "proxy", nil, nil)
	assert.NotContains(t, d.page("/"), "The last change of the policy")
	d.put(d.rules(), text("127.0.0.0/8\n<x>.test\n"))
	nettest.Eventually(t, "it is refused", func() bool { return d.metric(refused) == "1" })
	d.put(d.rules(), text("127.0.0.0/8\nb.test:443\n"))
	nettest.Eventually(t, "the page says it", func() bool { return strings.Contains(d.page("/"), "The last change of the policy") })
	assert.Contains(t, d.page("/"), "<p>Generation 2, ")
	assert.Contains(t, d.page("/"), "<p>Rules: 1 added, 0 removed. Decided otherwise: 1 opened, 0 closed.</p>\n<pre>+ b.test:443\nopened  b.test:443=1.0.0.0  by line 2 b.test:443 (was default)\n</pre>")
	assert.Contains(t, d.read("stderr"), `"msg":"what the reload has changed","generation":2,"added":1,"added_lines":["b.test:443"],"removed":0,"opened":1,"opened_lines":["b.test:443=1.0.0.0  by line 2 b.test:443 (was default)"],"closed":0}`)
	d.put(d.rules(), text("# the same\n127.0.0.0/8\nb.test:443\n"))
	nettest.Eventually(t, "it is in force", func() bool { return d.policy().Generation == 3 })
	assert.Contains(t, d.page("/"), "<p>Generation 2, ", "nothing has changed")
	b, err := os.ReadFile(d.file())
	require.NoError(t, err)
	d.put(d.file(), text(string(b)+"source: 127.0.0.2\nonRevoke: keep\nlistenSOCKS: ':0' # which a restart puts in force\n"))
	nettest.Eventually(t, "the page says it", func() bool { return strings.Contains(d.page("/"), "<p>Generation 4, ") })
	assert.Contains(t, d.page("/"), "Judged by otherwise besides rules: 2.</p>\n<pre>tenant default: source address 127.0.0.2 instead of the kernel&#39;s choice\nonRevoke: keep instead of close\n</pre>")
	assert.Contains(t, d.read("stderr"), `"msg":"what the reload has changed","generation":4,"other":2,"other_lines":["tenant default: source address 127.0.0.2 instead of the kernel's choice","onRevoke: keep instead of close"]}`)

	d = startDaemon(t, "tcp", nil, nil)
	b, err = os.ReadFile(d.file())
	require.NoError(t, err)
	d.put(d.file(), text(strings.Replace(string(b), " 127.0.0.1 "+portOf(d.server), " 127.0.0.2 "+portOf(d.server), 1)))
	nettest.Eventually(t, "the page says it", func() bool {
		return strings.Contains(d.page("/"), "<pre>+ 127.0.0.2:"+portOf(d.server)+"\n- 127.0.0.1:"+portOf(d.server)+"\n")
	})
}
