package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const refused = `sluice_config_reloads_total{result="failure"}`

// put puts what make makes in the place of a file that the daemon reads.
func (d *process) put(path string, make func(path string) error) {
	d.t.Helper()
	require.NoError(d.t, make(path+".new"))
	require.NoError(d.t, os.Rename(path+".new", path))
}

func text(s string) func(path string) error {
	return func(path string) error { return os.WriteFile(path, []byte(s), 0o600) }
}

// main is the file whose text decides where d leads.
func (d *process) main() string {
	if d.mode == "proxy" {
		return d.rules()
	}
	return d.file()
}

// A file that becomes something that does not end, or never answers, is refused, and the
// next good one comes in force.
func TestFileBecomesAnotherKind(t *testing.T) {
	kinds := map[string]struct {
		make func(path string) error
		said string
	}{
		"fifo": {func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is a pipe (FIFO); name a regular file, or a symbolic link to one"},
		"zero": {func(path string) error { return os.Symlink("/dev/zero", path) }, "it is a device; name a regular file, or a symbolic link to one"},
		"2 GB": {func(path string) error {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(2 << 30)
		}, "it holds more than 64 MiB, which is the most that is read; is it the right file?"},
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil)
			good, err := os.ReadFile(d.main())
			require.NoError(t, err)
			for _, name := range []string{"fifo", "zero", "2 GB"} {
				was, wasRefused := d.metric(reloaded), d.metric(refused)
				d.put(d.main(), kinds[name].make)
				nettest.Eventually(t, name+" is refused", func() bool { return d.metric(refused) != wasRefused })
				assert.Contains(t, d.read("stderr"), kinds[name].said)
				d.send()
				d.put(d.main(), text(string(good)+"# "+name+"\n"))
				nettest.Eventually(t, "there is a good one", func() bool { return d.metric(reloaded) != was })
			}
			rss, err := strconv.ParseFloat(d.metric("process_resident_memory_bytes"), 64)
			require.NoError(t, err)
			assert.Less(t, rss, 200e6)
			d.put(d.main(), kinds["fifo"].make)
			d.signal(syscall.SIGHUP)
			d.signal(syscall.SIGTERM)
			d.exits(0)
		})
	}
}

// At the start such a file is refused as well; a command that a person waits for may
// read a pipe.
func TestFileIsNoFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	for _, args := range [][]string{
		{"proxy", "--rules=" + fifo}, {"proxy", "--check", "--config=" + fifo}, {"tcp", "--config=" + fifo},
		{"proxy", "--check", "--upstream-ca=" + fifo},
	} {
		status, _, err := sluice(t, []string{"EGRESS_DNS_PROXY_DESTINATION=80 a.test"}, "", args...)
		assert.Equal(t, 2, status)
		assert.Contains(t, err, "read "+fifo+": it is a pipe (FIFO); name a regular file, or a symbolic link to one")
	}
	go func() {
		if f, err := os.OpenFile(fifo, os.O_WRONLY, 0); assert.NoError(t, err) {
			io.WriteString(f, exampleRules)
			f.Close()
		}
	}()
	status, _, err := sluice(t, nil, "", "acl", "check", fifo)
	assert.Equal(t, 0, status, err)
	status, _, err = sluice(t, nil, "", "acl", "check", "/dev/zero")
	assert.Equal(t, 2, status)
	assert.Equal(t, "read rules: read /dev/zero: it holds more than 64 MiB, which is the most that is read; is it the right file?\n", err)
}

// A file that is written bit by bit, without a rename, is not read before it is whole.
func TestFileBeingWritten(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil)
			good, err := os.ReadFile(d.main())
			require.NoError(t, err)
			was := d.metric(reloaded)
			f, err := os.OpenFile(d.main(), os.O_WRONLY|os.O_TRUNC, 0)
			require.NoError(t, err)
			pace := time.NewTicker(100 * time.Millisecond)
			defer pace.Stop()
			next := "# written bit by bit, as slow writers do\n" + string(good)
			for i := range 30 { // past the moment at which files are compared anyway
				<-pace.C
				_, err := io.WriteString(f, next[i:i+1])
				require.NoError(t, err)
			}
			assert.Equal(t, "0", d.metric(refused))
			assert.Equal(t, was, d.metric(reloaded), "a part of it is in force")
			_, err = io.WriteString(f, next[30:])
			require.NoError(t, err)
			require.NoError(t, f.Close())
			nettest.Eventually(t, "the whole is in force", func() bool { return d.metric(reloaded) != was })
			assert.Equal(t, "0", d.metric(refused))
			d.send()
		})
	}
}

// get is the status that a client of the proxy gets.
func (d *process) get() int {
	d.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: d.port})}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("http://" + d.server + "/")
	require.NoError(d.t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// A rules file that is gone leaves the rules in force, which is said once. One that is
// empty is a list of no rules, and said loudly.
func TestRulesGoneAndEmpty(t *testing.T) {
	d := startDaemon(t, "proxy", nil, nil)
	require.NoError(t, os.Remove(d.rules()))
	nettest.Eventually(t, "it is refused", func() bool { return d.metric(refused) == "1" })
	assert.Equal(t, 200, d.get())
	assert.Contains(t, d.read("stderr"), `"msg":"reload refused, the configuration before stays in force","problem":"`+d.file()+":4: open "+d.rules()+": no such file or directory")
	require.NoError(t, text("")(d.rules()))
	nettest.Eventually(t, "the empty list is in force", func() bool { return d.metric("sluice_rules") == "0" })
	assert.Equal(t, 403, d.get())
	assert.Equal(t, "1", d.metric("sluice_config_last_reload_successful"))
	assert.Equal(t, "1", d.metric(refused), "what was refused is not read again and again")
	assert.Contains(t, d.read("stderr"), `"level":"WARN","msg":"there is no rule now: everything is denied"`)
}

// Rules that ended in a line "#@ end" must go on to do so.
func TestRulesHaveLostTheirEnd(t *testing.T) {
	d := startDaemon(t, "proxy", nil, nil)
	change := func(rules, what, metric string) {
		t.Helper()
		was := d.metric(metric)
		require.NoError(t, text(rules)(d.rules()))
		nettest.Eventually(t, what, func() bool { return d.metric(metric) != was })
	}
	change("127.0.0.0/8\n*.ok.test\n#@ end\n", "it has an end", reloaded)
	change("127.0.0.0/8\n*", "it has lost its end", refused)
	assert.Equal(t, "2", d.metric("sluice_rules"))
	assert.Contains(t, d.read("stderr"), strings.ReplaceAll(`the rules in force end in the line "#@ end", and these do not: they may be cut off; add the line, or restart to do without it`, `"`, `\"`))
	change("127.0.0.0/8\n#@ end", "it has an end again", reloaded)
	assert.Equal(t, "1", d.metric("sluice_rules"))
}

// A configuration file that leads to other rules, which are still being written.
func TestNewRulesFileBeingWritten(t *testing.T) {
	d := startDaemon(t, "proxy", nil, nil)
	other := filepath.Join(d.dir, "other")
	f, err := os.Create(other)
	require.NoError(t, err)
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	was := d.metric(reloaded)
	config, err := os.ReadFile(d.file())
	require.NoError(t, err)
	d.put(d.file(), text(strings.ReplaceAll(string(config), "rulesFile: rules", "rulesFile: other")))
	for _, c := range strings.Repeat("# ", 15) {
		<-pace.C
		_, err := f.WriteString(string(c))
		require.NoError(t, err)
	}
	assert.Equal(t, was, d.metric(reloaded), "a part of it is in force")
	_, err = f.WriteString("\n127.0.0.0/8\n10.0.0.0/8\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	nettest.Eventually(t, "the new rules are in force", func() bool { return d.metric("sluice_rules") == "2" })
	assert.Equal(t, 200, d.get())
}

// Other files in the folder, the access log say, do not keep a change from being seen,
// however often they are written.
func TestReloadBesideBusyLog(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil)
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				pace := time.NewTicker(10 * time.Millisecond)
				defer pace.Stop()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-pace.C:
					}
					// Written, and sometimes made anew.
					assert.NoError(t, os.WriteFile(filepath.Join(d.dir, "busy"), make([]byte, n), 0o600))
					if n%3 == 0 {
						assert.NoError(t, os.Remove(filepath.Join(d.dir, "busy")))
					}
				}
			}()
			t.Cleanup(func() { close(stop); <-stopped })
			good, err := os.ReadFile(d.main())
			require.NoError(t, err)
			was := d.metric(reloaded)
			require.NoError(t, text(string(good)+"# changed\n")(d.main()))
			nettest.Eventually(t, "the change is in force", func() bool { return d.metric(reloaded) != was })
			was = d.metric(reloaded)
			d.signal(syscall.SIGHUP)
			nettest.Eventually(t, "it is loaded when asked to", func() bool { return d.metric(reloaded) != was })
		})
	}
}
