package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outcome is what a run of the program left.
type outcome struct {
	status   int
	out, err string
}

// program runs it, in the namespace if there is one.
func program(t testing.TB, n *nettest.Netns, environ []string, args ...string) (o outcome) {
	t.Helper()
	var out, errs bytes.Buffer
	run := func() error {
		o.status = run(context.Background(), args, environ, streams{&out, &errs})
		return nil
	}
	if n == nil {
		_ = run()
	} else {
		require.NoError(t, n.Do(run))
	}
	o.out, o.err = out.String(), errs.String()
	return o
}

func TestCommandLine(t *testing.T) {
	good := env("EGRESS_ROUTER_MODE=unit-test").env
	rules := "add rule ip nat prerouting iifname \"eth0\" dnat to 203.0.113.3\nadd rule ip nat postrouting oifname \"macvlan0\" snat to 192.0.2.10\n"
	for name, c := range map[string]struct {
		env    []string
		args   []string
		status int
		out    string
		err    string
	}{
		"unit test":       {good, nil, 0, rules, ""},
		"check":           {good, []string{"--check"}, 0, "", ""},
		"check, wrong":    {append(good, "EGRESS_SOURCE=x"), []string{"--check"}, 2, "", "EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: \"x\" is not ADDR or ADDR/LEN\n"},
		"wrong":           {nil, []string{"--mode=http-proxy", "--source=192.0.2.10", "--gateway=192.0.2.10"}, 2, "", "--gateway: EGRESS_GATEWAY unspecified or invalid: 192.0.2.10 is an EGRESS_SOURCE and its own gateway\n"},
		"unknown flag":    {good, []string{"--chekc"}, 2, "", "sluice-netsetup: unknown flag: --chekc; did you mean --check?\nsluice-netsetup --help lists the flags.\n"},
		"unknown command": {good, []string{"counter"}, 2, "", "sluice-netsetup: unknown command \"counter\" for \"sluice-netsetup\"; did you mean counters?\nsluice-netsetup --help lists the flags.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, outcome{c.status, c.out, c.err}, program(t, nil, c.env, c.args...))
		})
	}
	require.Contains(t, program(t, nil, nil, "version").out, "sluice-netsetup dev ")
	require.Equal(t, program(t, nil, nil, "version"), program(t, nil, nil, "--version"))
	require.Contains(t, program(t, nil, nil, "--help").out, "--dry-run")
}

// topologyEnv is the environment of a pod of the topology.
func topologyEnv(vars ...string) []string {
	return append([]string{
		"EGRESS_SOURCE=" + nettest.SourceV4 + "/24", "EGRESS_GATEWAY=198.51.100.1",
		"EGRESS_DESTINATION=80 tcp " + nettest.ServerAV4, "SLUICE_PROBE=false",
	}, vars...)
}

// TestModes runs the program in a pod: what it prints, its status, and that a
// second run is well.
func TestModes(t *testing.T) {
	p := nettest.NewTopology(t)
	dry := program(t, p.Egress, topologyEnv("EGRESS_ROUTER_MODE=init"), "--dry-run")
	require.Equal(t, 0, dry.status, dry.err)
	require.Contains(t, dry.out, "ip route replace default via 198.51.100.1 dev macvlan0 proto 83 src 198.51.100.50\nnft -f -")
	o := program(t, p.Egress, nil, "counters")
	require.Equal(t, outcome{1, "", "sluice-netsetup: no redirect rules are loaded here; the modes init and legacy load them\n"}, o)

	began := time.Now()
	o = program(t, p.Egress, topologyEnv("EGRESS_ROUTER_MODE=http-proxy", "EGRESS_ROUTER_DEBUG=1"))
	require.Equal(t, 0, o.status, o.err)
	require.Contains(t, o.err, `"run":"ip route replace default via 198.51.100.1 dev macvlan0 proto 83 src 198.51.100.50"`)
	require.GreaterOrEqual(t, time.Since(began), 2*time.Second, "announced twice")

	o = program(t, p.Egress, topologyEnv("EGRESS_ROUTER_MODE=init", "SLUICE_METRICS_FILE=/x"))
	require.Equal(t, 0, o.status, o.err)
	require.Contains(t, o.err, "the metrics file is written in mode legacy only")
	require.Contains(t, program(t, p.Egress, nil, "counters").out, "0        0      ip      prerouting   80 tcp "+nettest.ServerAV4+"\n")
	dry = program(t, p.Egress, topologyEnv("EGRESS_ROUTER_MODE=init"), "--dry-run")
	require.True(t, strings.HasPrefix(dry.out, "# all is in place\narping "), dry.out)

	for _, args := range [][]string{nil, {"--dry-run"}} {
		o = program(t, p.Egress, topologyEnv("EGRESS_ROUTER_MODE=dns-proxy", "EGRESS_INTERFACE=net9"), args...)
		require.Equal(t, 1, o.status)
		require.Contains(t, o.err, "sluice-netsetup: interface net9 of EGRESS_SOURCE 198.51.100.50 does not exist; there are: ")
	}
}

// TestLegacy: it stays until SIGTERM, keeps the metrics file, and follows its
// files and SIGHUP; a wrong file changes nothing.
func TestLegacy(t *testing.T) {
	p := nettest.NewTopology(t)
	dir := t.TempDir()
	rules, prom := filepath.Join(dir, "rules"), filepath.Join(dir, "sluice.prom")
	write := func(text string) { require.NoError(t, os.WriteFile(rules, []byte(text), 0o644)) }
	write("80 tcp " + nettest.ServerAV4)
	environ := append(topologyEnv()[:2], "SLUICE_DESTINATIONS="+rules, "SLUICE_METRICS_FILE="+prom, "SLUICE_PROBE=false")
	done := make(chan outcome, 1)
	go func() { done <- program(t, p.Egress, environ) }()
	until := func(parts ...string) {
		t.Helper()
		nettest.Eventually(t, fmt.Sprintf("the metrics say %q", parts), func() bool {
			text, _ := os.ReadFile(prom)
			for _, part := range parts {
				if !strings.Contains(string(text), part) {
					return false
				}
			}
			return true
		})
	}
	until(`sluice_redirect_connections_total{family="ip",rule="80 tcp 203.0.113.10"} 0`, "successful 1\n")
	write("81 tcp " + nettest.ServerAV4)
	until(`rule="81 tcp 203.0.113.10"} 0`, "successful 1\n")
	write("nonsense")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	until(`rule="81 tcp 203.0.113.10"} 0`, "successful 0\n")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	o := <-done
	require.Equal(t, 0, o.status)
	require.Contains(t, o.err, `"msg":"reloaded"`)
	require.Contains(t, o.err, "EGRESS_DESTINATION value 'nonsense' is invalid")
}
