package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const learning = "sluice_learning"

// Learning allows what no rule decides, and records it; deny rules and the guard stay. A reload begins it
// and ends it, and with it what is open.
func TestLearn(t *testing.T) {
	d := newProcess(t, "proxy")
	require.NoError(t, os.WriteFile(d.rules(), []byte("!127.0.0.2\n"), 0o600))
	before, err := os.ReadFile(d.file())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.file(), append(before, "learn: true\n"...), 0o600))
	d.start(nil, nil, nil)
	nettest.Eventually(t, "it is ready", func() bool { return d.status("/readyz") == 200 })
	assert.Equal(t, "1", d.metric(learning))
	assert.Contains(t, d.page("/"), "Learning: what no rule denies is allowed, and recorded in the access log.")
	assert.Contains(t, d.read("stderr"), d.file()+`:5: what no rule denies is allowed, and recorded in the access log`)
	assert.Contains(t, d.read("stderr"), "  learning: what they do not decide is allowed, and recorded\n")
	assert.Equal(t, 403, d.get(), "the guard stays")

	was := d.metric(reloaded)
	d.setting("guard: off")
	nettest.Eventually(t, "the guard is off", func() bool { return d.metric(reloaded) != was })
	assert.Equal(t, 200, d.get())
	open := d.open()

	was = d.metric(reloaded)
	text, err := os.ReadFile(d.file())
	require.NoError(t, err)
	d.put(d.file(), func(path string) error {
		return os.WriteFile(path, []byte(strings.Replace(string(text), "learn: true", "learn: false", 1)), 0o600)
	})
	nettest.Eventually(t, "nothing is learned any more", func() bool { return d.metric(reloaded) != was })
	assert.Equal(t, "0", d.metric(learning))
	assert.Equal(t, 403, d.get())
	_, err = io.Copy(io.Discard, open)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "what was open by learning ends")
	nettest.Eventually(t, "all is logged", func() bool { return strings.Count(d.read("stdout"), "\n") == 4 })

	status, out, errText := sluice(t, nil, "", "acl", "suggest", "--guard", "off", "--log", d.dir+"/stdout")
	assert.Equal(t, 0, status, errText)
	assert.Contains(t, out, "\n"+d.server+" # 2 requests, ")
	assert.Contains(t, d.read("stdout"), `"verdict":"allow","reason":"line 1 of --learn *","file":"--learn","line":1`)
	assert.Contains(t, d.read("stdout"), `"reason":"guard loopback"`)
}
