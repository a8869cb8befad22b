package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// inPod is what the downward API says of a pod.
var inPod = []string{"POD_NAME=sluice-0", "POD_NAMESPACE=egress", "POD_UID=u-1", "POD_IPS=10.128.0.3,fd00:128::3", "NODE_NAME=node-1"}

// kubeconfig is a file that names an API server.
func kubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, []byte(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://192.0.2.1"}}]
users: [{name: u, user: {token: t}}]
`), 0o600))
	return path
}

// loaded is the configuration that arguments and variables make.
func loaded(t *testing.T, environ []string, args ...string) (*holdConfiguration, error) {
	t.Helper()
	flags := pflag.NewFlagSet("hold", pflag.ContinueOnError)
	settings.AddFlags(flags, new(holdConfiguration).settings())
	require.NoError(t, flags.Parse(append(args, "--kubeconfig", kubeconfig(t))))
	return loadHold(settings.Input{Flags: flags, Environ: environ, ReadFile: os.ReadFile}, false)
}

// What is not said is as the defaults have it, which are right together.
func TestHoldDefaults(t *testing.T) {
	c, err := loaded(t, inPod)
	require.NoError(t, err)
	assert.Equal(t, hold.Defaults, c.Hold)
	assert.Equal(t, "sluice", c.Lease)
	assert.Empty(t, c.Service)
	assert.Equal(t, []string{"/run/sluice/hold.sock", "/run/sluice/serving.sock", "127.0.0.1:9092"}, []string{c.Netsetup, c.Socket, c.Admin})
	assert.Equal(t, []string{"http 8080 TCP"}, portsOf(c.Ports))
	assert.Equal(t, pod{Name: "sluice-0", Namespace: "egress", UID: "u-1", Node: "node-1", IPs: []netip.Addr{netip.MustParseAddr("10.128.0.3"), netip.MustParseAddr("fd00:128::3")}}, c.Pod)
	assert.Equal(t, "https://192.0.2.1", c.API.Host)
	assert.Empty(t, c.Warnings)
}

func portsOf(ports []discoveryv1.EndpointPort) (all []string) {
	for _, p := range ports {
		all = append(all, strings.TrimSpace(fmt.Sprint(*p.Name, " ", *p.Port, " ", *p.Protocol)))
	}
	return all
}

// What is said comes to its place, from flags and variables.
func TestHoldSettings(t *testing.T) {
	c, err := loaded(t, append([]string{"SLUICE_LEASE=out", "SLUICE_HOLD_ON_API_LOSS=keep", "SLUICE_ADMIN=:9090"}, inPod...), "--service", "egress", "--endpoint", "web=8080,8443",
		"--endpoint", "tls=8444", "--netsetup", "/a", "--socket", "/b", "--hold-pending", "1s", "--hold-held", "4s", "--hold-lease", "6s", "--hold-renew", "900ms", "--hold-retry", "2s",
		"--hold-gateway-misses", "5", "--hold-api-grace", "30m", "--hold-successor-wait", "20s", "--drain-timeout", "3s", "--hold-proxy-gone", "7s", "--admin", "off")
	require.NoError(t, err)
	assert.Equal(t, hold.Settings{
		Pending: time.Second, Held: 4 * time.Second, Lease: 6 * time.Second, Renew: 900 * time.Millisecond, Retry: 2 * time.Second, GatewayMisses: 5,
		Keep: true, Grace: 30 * time.Minute, SuccessorWait: 20 * time.Second, DrainTimeout: 3 * time.Second, ProxyGone: 7 * time.Second,
	}, c.Hold)
	assert.Equal(t, []string{"out", "egress", "/a", "/b", ""}, []string{c.Lease, c.Service, c.Netsetup, c.Socket, c.Admin})
	assert.Equal(t, []string{"web 8080 TCP", "8443 TCP", "tls 8444 TCP"}, portsOf(c.Ports))
}

// Everything that is wrong is said at once, each in a line, and nothing is opened.
func TestWrongHoldSettings(t *testing.T) {
	for _, test := range []struct {
		name    string
		want    []string
		environ []string
		args    []string
	}{
		{"each by itself", []string{
			`--lease: "Sluice" is no name of an object: lower-case letters, digits, hyphens and dots`,
			`--service: "-" is no name of an object: lower-case letters, digits, hyphens and dots`,
			`--endpoint: "http=0" is no port: write NAME=PORT, as the Service names it`,
			`--endpoint: "HTTP=80" is no port: write NAME=PORT, as the Service names it`,
			`--endpoint: "=80" is no port: write NAME=PORT, as the Service names it`,
			`--endpoint: "65536" is no port: write NAME=PORT, as the Service names it`,
			`--hold-on-api-loss: "hope" is neither release nor keep`,
		}, inPod, []string{"--lease", "Sluice", "--service", "-", "--endpoint", "http=0", "--endpoint", "HTTP=80,=80", "--endpoint", "65536", "--hold-on-api-loss", "hope"}},
		{"what no pod is", []string{
			"POD_NAME: it is not set: have the downward API say which pod this is",
			"POD_NAMESPACE: it is not set: have the downward API say which pod this is",
			"POD_UID: it is not set: have the downward API say which pod this is",
		}, nil, nil},
		{"addresses", []string{
			`POD_IPS: "10.0.0" is no address`,
			"POD_IPS: it is not set: a Service cannot lead to this pod without its addresses",
		}, append(inPod[:3:3], "POD_IPS=10.0.0"), []string{"--service", "sluice"}},
		{"no addresses, no Service", nil, inPod[:3], nil},
		{"times together", []string{
			"--hold-lease: lease 3s is less than 1.15 times pending 750ms and held 2s: at least 3.1625s",
		}, inPod, []string{"--hold-lease", "3s"}},
		{"longer than anybody waits", []string{
			"--hold-held: 2m is out of range: from 0s to 1m",
		}, inPod, []string{"--hold-held", "2m"}},
		{"more than one", []string{
			"--hold-held: lease 3.25s is less than 1.15 times pending 750ms and held 3s: at least 4.3125s",
			"--hold-renew: renew 3s: held 3s must be more than that and pending 750ms together, or the address is fenced between renewals",
		}, inPod, []string{"--hold-held", "3s", "--hold-renew", "3s"}},
		{"of P alone", []string{
			"--hold-pending: pending 5ms: the shortest time that the fence takes is 10ms",
		}, inPod, []string{"--hold-pending", "5ms"}},
		{"a long P", []string{
			"SLUICE_HOLD_PENDING: lease 3.25s is less than 1.15 times pending 1s and held 2s: at least 3.45s",
		}, append([]string{"SLUICE_HOLD_PENDING=1s"}, inPod...), nil},
		{"a port twice", []string{
			`--endpoint: the Service's port "http" is at 8080 and at 8081: a name has one port`,
			`--endpoint: the Service's port "" is at 8443 and at 8444: a name has one port`,
		}, inPod, []string{"--endpoint", "http=8080,8443", "--endpoint", "http=8081,8444"}},
		{"no time to renew in", []string{
			"--hold-renew: renew 2s: held 2s must be more than that and pending 750ms together, or the address is fenced between renewals",
		}, inPod, []string{"--hold-renew", "2s"}},
		{"too often", []string{
			"--hold-renew: 1ns is out of range: from 50ms to 1m",
			"--hold-retry: 49ms is out of range: from 50ms to 1m",
		}, inPod, []string{"--hold-renew", "1ns", "--hold-retry", "49ms"}},
		{"one socket for both", []string{
			"--socket: /run/a is the socket of --netsetup too: name another, this one is made here",
		}, inPod, []string{"--netsetup", "/run/a", "--socket", "/run/a"}},
		{"a name without room", []string{
			"--lease: 214 letters are too many: 213 at most, so that a group has room behind them",
		}, inPod, []string{"--lease", strings.Repeat("a", 214)}},
		{"a name with room", nil, inPod, []string{"--lease", strings.Repeat("a", 213)}},
		{"no pod's", []string{
			`POD_UID: "a b/c_d" is no pod's: have the downward API say which pod this is`,
			`POD_NAMESPACE: "../x" is no pod's: have the downward API say which pod this is`,
		}, []string{"POD_NAME=sluice-0", "POD_NAMESPACE=../x", "POD_UID=a b/c_d"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := loaded(t, test.environ, test.args...)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.Nil(t, c)
			assert.ElementsMatch(t, test.want, strings.Split(strings.TrimSpace(err.Error()), "\n"))
		})
	}
}

// The command ends with them, and opens nothing.
func TestHoldDoesNotBegin(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	socket := filepath.Join(t.TempDir(), "socket")
	status, _, errs := call(t, inPod, "hold", "--socket", socket, "--hold-lease", "1s")
	assert.Equal(t, cli.StatusWrong, status)
	assert.Equal(t, []string{
		"--hold-lease: lease 1s is less than 1.15 times pending 750ms and held 2s: at least 3.1625s",
		"SLUICE_KUBECONFIG: this is no pod, so name a kubeconfig to reach the API server by",
	}, sortedLines(errs))
	assert.NoFileExists(t, socket)
}

// With --check the settings are judged, and nothing is opened.
func TestHoldCheck(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	for _, command := range []string{"hold", "directory"} {
		args := []string{command, "--check", "--socket", socket, "--kubeconfig", kubeconfig(t)}
		status, out, errs := call(t, inPod, args...)
		assert.Equal(t, []any{0, "", ""}, []any{status, out, errs})
		status, _, errs = call(t, inPod, append(args, "--admin", "nowhere")...)
		assert.Equal(t, cli.StatusWrong, status)
		assert.Contains(t, errs, "--admin: ")
	}
	assert.NoFileExists(t, socket)
}

// Where there is no API server, what is set can be judged all the same; a file that is named is read.
func TestCheckOutsideOfPods(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, command := range []string{"hold", "directory"} {
		status, out, errs := call(t, inPod, command, "--check")
		assert.Equal(t, []any{0, "", ""}, []any{status, out, errs})
		status, _, errs = call(t, inPod, command, "--check", "--kubeconfig", "/absent")
		assert.Equal(t, cli.StatusWrong, status)
		assert.Contains(t, errs, "--kubeconfig: stat /absent: no such file or directory")
	}
}

// A folder that is not there is a volume that nobody has mounted.
func TestHoldWithoutFolder(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "away", "s")
	status, _, errs := call(t, inPod, "hold", "--socket", socket, "--kubeconfig", kubeconfig(t), "--admin", "off")
	assert.Equal(t, cli.StatusWrong, status)
	assert.Contains(t, errs, "sluice-kube: --socket: the folder of "+socket+" does not exist: make it, or mount there what the programs of the pod share (an emptyDir)")
}

func sortedLines(s string) []string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	slices.Sort(lines)
	return lines
}
