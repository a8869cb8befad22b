package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

func rulesOf(t *testing.T, text string) *acl.Policy {
	t.Helper()
	p, err := acl.Parse(text)
	require.NoError(t, err)
	return p
}

func TestWhatAReloadHasChanged(t *testing.T) {
	old := rulesOf(t, "!ads.example.com\n*.example.com:443\n10.0.0.0/8 #@ protocol=tls\n")
	now := rulesOf(t, "*.example.com:443\n!ads.example.com\n10.0.0.0/8\nb.test:80\n")
	strict := old.WithGuard(acl.Guard{Mode: acl.GuardStrict})
	r := replaced{generation: 7, before: judged{{"", old}}, now: judged{{"", now}}}
	got := r.change()
	require.Len(t, got.Tenants, 1)
	got.At = time.Time{}
	assert.Equal(t, &admin.Change{Generation: 7, Tenants: []admin.TenantChange{{
		Added:   admin.Lines{Count: 2, First: []string{"10.0.0.0/8", "b.test:80"}},
		Removed: admin.Lines{Count: 1, First: []string{"10.0.0.0/8 protocol=tls"}},
		Opened: admin.Lines{Count: 2, First: []string{
			"ads.example.com:443=1.0.0.0  by line 1 *.example.com:443 (was line 1 !ads.example.com)", "b.test:80=1.0.0.0  by line 4 b.test:80 (was default)"}},
	}}}, got)

	same := replaced{before: judged{{"", old}}, now: judged{{"", rulesOf(t, "!ads.example.com\n*.example.com:443\n10.0.0.0/8 #@ protocol=tls\n")}}}
	assert.Nil(t, same.change())
	guard := replaced{before: judged{{"", old}}, now: judged{{"", strict}}}
	got = guard.change()
	require.NotNil(t, got, "the guard is another, the text is not")
	assert.Zero(t, got.Tenants[0].Added.Count+got.Tenants[0].Removed.Count)
	assert.NotZero(t, got.Tenants[0].Closed.Count)

	// Tenants that come and go, and one that is as all others are.
	tenants := replaced{before: judged{{"default", old}, {"a", old}, {"gone", now}}, now: judged{{"default", now}, {"a", now}, {"new", old}}}
	got = tenants.change()
	var names []string
	for _, c := range got.Tenants {
		names = append(names, fmt.Sprintf("%s +%d -%d", c.Tenant, c.Added.Count, c.Removed.Count))
	}
	assert.Equal(t, []string{"default +2 -1", "new +3 -0", "gone +0 -4"}, names)
}

// What is too large to be compared in the time is not begun, or given up; the lines are told all the same.
func TestChangesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range compareRules + 1 {
		fmt.Fprintf(&b, "h%d.example%d.com:443\n", i, i%100)
	}
	old, now := rulesOf(t, b.String()), rulesOf(t, strings.Replace(b.String(), "h7.", "g7.", 1))
	r := replaced{before: judged{{"", old}}, now: judged{{"", now}}}
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
	list := func(n uint64) judged { return judged{{"", rulesOf(t, fmt.Sprintf("r%d.test\n", n))}} }
	for n := uint64(1); n <= 5; n++ {
		c.tell(replaced{generation: n, before: list(n - 1), now: list(n)})
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
	assert.NotContains(t, d.page("/"), "The last change of rules")
	d.put(d.rules(), text("127.0.0.0/8\n<x>.test\n"))
	nettest.Eventually(t, "it is refused", func() bool { return d.metric(refused) == "1" })
	d.put(d.rules(), text("127.0.0.0/8\nb.test:443\n"))
	nettest.Eventually(t, "the page says it", func() bool { return strings.Contains(d.page("/"), "The last change of rules") })
	assert.Contains(t, d.page("/"), "<p>Generation 2, ")
	assert.Contains(t, d.page("/"), "<p>Rules: 1 added, 0 removed. Decided otherwise: 1 opened, 0 closed.</p>\n<pre>+ b.test:443\nopened  b.test:443=1.0.0.0  by line 2 b.test:443 (was default)\n</pre>")
	assert.Contains(t, d.read("stderr"), `"msg":"what the reload has changed","generation":2,"added":1,"added_lines":["b.test:443"],"removed":0,"opened":1,"opened_lines":["b.test:443=1.0.0.0  by line 2 b.test:443 (was default)"],"closed":0}`)
	d.put(d.rules(), text("# the same\n127.0.0.0/8\nb.test:443\n"))
	nettest.Eventually(t, "it is in force", func() bool { return d.policy().Generation == 3 })
	assert.Contains(t, d.page("/"), "<p>Generation 2, ", "nothing has changed")

	d = startDaemon(t, "tcp", nil, nil)
	b, err := os.ReadFile(d.file())
	require.NoError(t, err)
	d.put(d.file(), text(strings.Replace(string(b), " 127.0.0.1 "+portOf(d.server), " 127.0.0.2 "+portOf(d.server), 1)))
	nettest.Eventually(t, "the page says it", func() bool {
		return strings.Contains(d.page("/"), "<pre>+ 127.0.0.2:"+portOf(d.server)+"\n- 127.0.0.1:"+portOf(d.server)+"\n")
	})
}
