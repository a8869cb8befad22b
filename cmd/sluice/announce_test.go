package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// TestTryURL: what is offered for trying can work.
func TestTryURL(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{
		"*":                            "https://example.com/",
		"":                             "",
		"!a.test\n!10.0.0.0/8":         "",
		"*.example.com":                "https://example.com/",
		"!example.com\n*.a.test":       "https://a.test/",
		"!*.example.com\nb.test:80\n*": "http://b.test/",
		"api-*.test\nregistry:5000":    "http://registry:5000/",
		"a.test:8000-8999\n192.0.2.1":  "https://192.0.2.1/",
		"[2001:db8::1]:443":            "https://[2001:db8::1]/",
		"2001:db8::1":                  "https://[2001:db8::1]/",
		"10.0.0.0/8":                   "",
		"!a.test\na.test\nc.test":      "https://c.test/",
		"!example.com:443\nexample.com\n!*.x.test\nd.test:443": "https://d.test/",
	} {
		p, err := acl.Parse(rules)
		require.NoError(t, err)
		assert.Equal(t, want, tryURL(p), rules)
		assert.Equal(t, want == "" && rules != "10.0.0.0/8", allowsNothing(p), rules)
	}
}

// runs starts the program, lets it come up, ends it, and returns its status and
// what it said.
func runs(t *testing.T, environ []string, args ...string) (status int, said string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it listens, announces, and ends
	status = run(ctx, args, environ, streams{in: strings.NewReader(""), out: &out, err: &errs})
	return status, errs.String()
}

// TestEmptyListIsAnnounced: a list that allows nothing is said so, without a line to
// try that must fail.
func TestEmptyListIsAnnounced(t *testing.T) {
	rules := write(t, "rules", "# none yet\n!a.test\n")
	status, said := runs(t, nil, "proxy", "--rules", rules, "--listen", "127.0.0.1:0", "--admin", "off")
	assert.Equal(t, 0, status, said)
	assert.Contains(t, said, "rules in force: 1 from "+rules+"\n  !a.test\n  no rule allows anything: every request is denied\nsource address: ")
	assert.Contains(t, said, `"level":"WARN","msg":"the rules deny everything: none of them allows a destination; add one, such as example.com, or * for all","from":"`+rules+`"`)
	assert.NotContains(t, said, "try:")

	status, said = runs(t, []string{"EGRESS_HTTP_PROXY_DESTINATION=!*.example.com\n*.b.test"}, "proxy", "--listen", "127.0.0.1:0", "--admin", "off")
	assert.Equal(t, 0, status, said)
	assert.NotContains(t, said, "every request")
	_, over := runs(t, []string{"EGRESS_HTTP_PROXY_DESTINATION=a.test #@ expires=2026-01-01\nb.test"}, "proxy", "--listen", "127.0.0.1:0", "--admin", "off")
	assert.Contains(t, over, "\n  a.test  (expired)\n  b.test\n")
	assert.Contains(t, over, "'a.test' has expired on 2026-01-01, and allows nothing any more")
	assert.Regexp(t, `try: curl -x http://127\.0\.0\.1:\d+ https://b\.test/\n`, over)
	_, over = runs(t, []string{"EGRESS_HTTP_PROXY_DESTINATION=a.test #@ expires=2026-01-01"}, "proxy", "--listen", "127.0.0.1:0", "--admin", "off")
	assert.Contains(t, over, "no rule allows anything: every request is denied\n")
	_, learns := runs(t, nil, "proxy", "--learn", "--listen", "127.0.0.1:0", "--admin", "off")
	assert.Contains(t, learns, "rules in force: 0\n  learning: ")
	assert.Regexp(t, `try: curl -x http://127\.0\.0\.1:\d+ https://b\.test/\n`, said)
}

// TestPortTaken: the message names the setting, the port, and what to do; it is the
// same for each kind of port.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	const all = "EGRESS_HTTP_PROXY_DESTINATION=*"
	for _, tt := range []struct {
		setting string
		env     []string
		args    []string
	}{
		{"--listen", []string{all}, []string{"proxy", "--admin=off", "--listen=" + addr}},
		{"--admin", []string{all}, []string{"proxy", "--listen=127.0.0.1:0", "--admin=" + addr}},
		{"--admin", []string{"EGRESS_DNS_PROXY_DESTINATION=1 192.0.2.1"}, []string{"tcp", "--admin=" + addr}},
		{"EGRESS_DNS_PROXY_DESTINATION", []string{"EGRESS_DNS_PROXY_DESTINATION=" + port + " 192.0.2.1"}, []string{"tcp", "--admin=off", "--bind=127.0.0.1"}},
	} {
		status, said := runs(t, tt.env, tt.args...)
		assert.Equal(t, 2, status)
		assert.Equal(t, "sluice: "+tt.setting+": listen on "+addr+": another program has the port; end that, or choose another port: bind: address already in use\n", said)
	}
	for from, setting := range map[string]string{
		"SLUICE_LISTEN": "SLUICE_LISTEN", "file": "",
	} {
		env, args := []string{all, "SLUICE_ADMIN=off"}, []string{"proxy"}
		if from == "file" {
			path := write(t, "sluice.yaml", "# one\nlisten: "+addr+"\n")
			setting, args = "listen ("+path+":2)", append(args, "--config", path)
		} else {
			env = append(env, from+"="+addr)
		}
		status, said := runs(t, env, args...)
		assert.Equal(t, 2, status)
		assert.Equal(t, "sluice: "+setting+": listen on "+addr+": another program has the port; end that, or choose another port: bind: address already in use\n", said)
	}
	status, said := runs(t, []string{all}, "proxy", "--admin=off", "--listen=192.0.2.77:8080")
	assert.Equal(t, 2, status)
	assert.Equal(t, "sluice: --listen: listen on 192.0.2.77:8080: no interface of this host has the address; leave the address out to listen on all: bind: cannot assign requested address\n", said)
}

// TestLowPort: without the privilege, the message names the sysctl and the way round.
func TestLowPort(t *testing.T) {
	ns := nettest.NewNetns(t, "low") // its sysctl is the kernel's default
	bin := filepath.Join(t.TempDir(), "sluice")
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(bin)), 0o755)) // for a user without privilege
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, tt := range []struct {
		setting, addr string
		env           string
		args          []string
	}{
		{"--listen", ":80", "EGRESS_HTTP_PROXY_DESTINATION=*", []string{"proxy", "--admin=off", "--listen=:80"}},
		{"EGRESS_DNS_PROXY_DESTINATION", ":80", "EGRESS_DNS_PROXY_DESTINATION=80 192.0.2.1", []string{"tcp", "--admin=off"}},
	} {
		cmd := exec.Command(bin, tt.args...)
		cmd.Env = []string{tt.env}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		require.NoError(t, ns.Start(cmd))
		_ = cmd.Wait()
		status, said := cmd.ProcessState.ExitCode(), errs.String()
		assert.Equal(t, 2, status)
		assert.Equal(t, "sluice: "+tt.setting+": listen on "+tt.addr+": ports below 1024 are for privileged processes here; "+
			"set the sysctl net.ipv4.ip_unprivileged_port_start to 80 or less (in a pod: securityContext.sysctls), "+
			"or listen on a higher port and let the Service lead port 80 to it (targetPort): bind: permission denied\n", said)
	}
}
