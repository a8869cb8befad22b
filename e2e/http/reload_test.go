//go:build linux

package http

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const (
	reloadOK  = "sluice_config_last_reload_successful"
	succeeded = `sluice_config_reloads_total{result="success"}`
	failed    = `sluice_config_reloads_total{result="failure"}`
)

// configMap is a mounted ConfigMap with the key "rules", as the kubelet keeps it:
// rules → ..data/rules, ..data → a folder that is replaced as a whole.
type configMap struct {
	t   testing.TB
	dir string
	n   int
}

func newConfigMap(t testing.TB, rules string) *configMap {
	t.Helper()
	m := &configMap{t: t, dir: t.TempDir()}
	m.swap(rules)
	require.NoError(t, os.Symlink(filepath.Join("..data", "rules"), m.path()))
	return m
}

func (m *configMap) path() string { return filepath.Join(m.dir, "rules") }

// swap puts the new text in place by renaming a symbolic link.
func (m *configMap) swap(rules string) {
	m.t.Helper()
	old, _ := os.Readlink(filepath.Join(m.dir, "..data"))
	m.n++
	name := fmt.Sprintf("..2026_01_01_%d", m.n)
	require.NoError(m.t, os.Mkdir(filepath.Join(m.dir, name), 0o700))
	require.NoError(m.t, os.WriteFile(filepath.Join(m.dir, name, "rules"), []byte(rules), 0o600))
	tmp := filepath.Join(m.dir, "..data_tmp")
	require.NoError(m.t, os.Symlink(name, tmp))
	require.NoError(m.t, os.Rename(tmp, filepath.Join(m.dir, "..data")))
	if old != "" {
		require.NoError(m.t, os.RemoveAll(filepath.Join(m.dir, old)))
	}
}

// ways are how new rules come.
var ways = map[string]func(t testing.TB) (g *gateway, change func(rules string)){
	"SIGHUP": func(t testing.TB) (*gateway, func(string)) {
		g := start(t, program.Setup{Rules: loopback})
		return g, func(rules string) {
			require.NoError(t, os.WriteFile(g.Rules, []byte(rules), 0o600))
			g.Signal(syscall.SIGHUP)
		}
	},
	"ConfigMap": func(t testing.TB) (*gateway, func(string)) {
		m := newConfigMap(t, loopback)
		return start(t, program.Setup{Args: []string{"--rules", m.path()}}), m.swap
	},
	"file": func(t testing.TB) (*gateway, func(string)) {
		g := start(t, program.Setup{Rules: loopback})
		return g, func(rules string) {
			tmp := g.Rules + ".new"
			require.NoError(t, os.WriteFile(tmp, []byte(rules), 0o600))
			require.NoError(t, os.Rename(tmp, g.Rules))
		}
	},
}

// New rules come into force whole, wrong ones not at all, and an open tunnel does
// not notice either.
func TestReload(t *testing.T) {
	for name, begin := range ways {
		t.Run(name, func(t *testing.T) {
			g, change := begin(t)
			c, far := g.Client(), echo(t)
			first, second := origin(t, witness("first")), origin(t, witness("second"))
			denied := fmt.Sprintf("!127.0.0.1:%d", netip.MustParseAddrPort(first).Port())
			open := g.tunnel(far)
			program.Echoes(t, open, "before")
			require.Equal(t, "200 200", both(t, c, first, second))

			change(denied + "\n" + loopback)
			nettest.Eventually(t, "the new rules are in force", func() bool { return both(t, c, first, second) == "403 200" })
			program.Echoes(t, open, "with other rules")
			assert.Equal(t, "1", g.Metric(reloadOK))
			assert.Equal(t, "2", g.Metric("sluice_rules"))

			good := g.Metric(succeeded)
			change("10.0.0.300\n" + loopback + "*\n!x.test\n")
			nettest.Eventually(t, "the wrong rules are refused", func() bool { return g.Metric(failed) != "0" })
			assert.Equal(t, "0", g.Metric(reloadOK))
			assert.Equal(t, good, g.Metric(succeeded))
			assert.Equal(t, "2", g.Metric("sluice_rules"))
			assert.Equal(t, "403 200", both(t, c, first, second), "the rules before stay")
			assert.Contains(t, g.Stderr(), ":1: Bad destination '10.0.0.300'")
			assert.Contains(t, g.Stderr(), ":3: Wildcard must be last rule, if present")
			status, page := g.Ask("/")
			assert.Equal(t, 200, status)
			assert.Contains(t, page, "The last reload was refused")
			program.Echoes(t, open, "with wrong rules")

			change("!127.0.0.1\n")
			nettest.Eventually(t, "the third rules are in force", func() bool { return both(t, c, first, second) == "403 403" })
			assert.Equal(t, "1", g.Metric(reloadOK))
			require.NoError(t, open.SetReadDeadline(time.Now().Add(20*time.Second)))
			_, err := open.Read(make([]byte, 1))
			assert.ErrorIs(t, err, io.EOF, "a tunnel ends with the rule that let it in")
			nettest.Eventually(t, "it is logged", func() bool {
				return strings.Contains(strings.Join(g.AccessLog(), "\n"), `"revoked":"line 1 !127.0.0.1"`)
			})
		})
	}
}

// SIGHUP reloads whether or not a file seems to have changed.
func TestSighupAlone(t *testing.T) {
	g := start(t, program.Setup{Rules: loopback})
	require.Equal(t, "1", g.Metric(succeeded))
	g.Signal(syscall.SIGHUP)
	nettest.Eventually(t, "the same rules are loaded again", func() bool { return g.Metric(succeeded) == "2" })
}

// both are the statuses of two servers.
func both(t testing.TB, c *http.Client, first, second string) string {
	t.Helper()
	a, _ := get(t, c, "http://"+first+"/")
	b, _ := get(t, c, "http://"+second+"/")
	return fmt.Sprintf("%d %d", a, b)
}

// Two lists say opposite things of two servers, and are swapped again and again
// under load: each answer is that of one list or the other, and the last list
// wins.
func TestReloadUnderLoad(t *testing.T) {
	first, second := origin(t, witness("first")), origin(t, witness("second"))
	port := func(addr string) uint16 { return netip.MustParseAddrPort(addr).Port() }
	lists := []string{
		fmt.Sprintf("!127.0.0.1:%d\n127.0.0.1\n", port(first)),
		fmt.Sprintf("!127.0.0.1:%d\n127.0.0.1\n", port(second)),
	}
	m := newConfigMap(t, lists[1])
	g := start(t, program.Setup{Args: []string{"--rules", m.path()}})
	stop, done := make(chan struct{}), make(chan map[string]int)
	go func() {
		seen, c := map[string]int{}, g.Client()
		for {
			select {
			case <-stop:
				done <- seen
				return
			default:
			}
			for _, addr := range []string{first, second} {
				resp, err := c.Get("http://" + addr + "/")
				if err != nil {
					seen[err.Error()]++
					continue
				}
				_ = resp.Body.Close()
				seen[strings.TrimPrefix(resp.Status, "403 Egress denied: ")]++
			}
		}
	}()
	for i := range 20 {
		m.swap(lists[i%2])
		want := []string{"403 200", "200 403"}[i%2]
		nettest.Eventually(t, "the list is in force", func() bool { return both(t, g.Client(), first, second) == want })
	}
	close(stop)
	seen := <-done
	for _, addr := range []string{first, second} {
		assert.NotZero(t, seen[fmt.Sprintf("line 1 !127.0.0.1:%d", port(addr))])
		delete(seen, fmt.Sprintf("line 1 !127.0.0.1:%d", port(addr)))
	}
	assert.NotZero(t, seen["200 OK"])
	delete(seen, "200 OK")
	assert.Empty(t, seen)
}
