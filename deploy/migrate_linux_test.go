package deploy

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// TestMigratedPods runs what "sluice migrate" makes of a pod of each mode: the programs of the
// image, with the environment, the files and the security context of the migrated object.
func TestMigratedPods(t *testing.T) {
	var shared *kubelet
	all, whole := migrations(t), t // one image for all of them
	for _, tt := range []struct {
		input  string
		serve  []string          // destinations outside
		expect map[string]string // what a client hears: by port, or by URL through the proxy
	}{
		{"http-proxy", []string{"203.0.113.25:80"}, map[string]string{"http://203.0.113.25/": "saw 192.0.2.10", "http://203.0.113.70/": "!203.0.113.64/26"}},
		{"dns-proxy", []string{"203.0.113.25:80", "203.0.113.26:80"}, map[string]string{"80": "203.0.113.25:80 saw 192.0.2.20", "8080": "203.0.113.26:80 saw 192.0.2.20"}},
		{"redirect", []string{"203.0.113.26:80", "203.0.113.27:7777"}, map[string]string{"8080": "203.0.113.26:80 saw 192.0.2.12", "7777": "203.0.113.27:7777 saw 192.0.2.12"}},
		{"redirect-legacy", []string{"203.0.113.25:81"}, map[string]string{"81": "203.0.113.25:81 saw 192.0.2.99"}},
		{"configmaps", []string{"203.0.113.26:80"}, map[string]string{"8080": "203.0.113.26:80 saw 192.0.2.13"}},
		{"egressrouter", []string{"203.0.113.27:7777"}, map[string]string{"7777": "203.0.113.27:7777 saw 192.0.2.17"}},
		{"community-template", nil, nil},
	} {
		t.Run(tt.input, func(t *testing.T) {
			net := asTheOverlaysSay(t)
			for _, addr := range tt.serve {
				if tt.input == "http-proxy" {
					saw(t, net, addr)
				} else {
					names(t, net, "tcp", addr)
				}
			}
			if shared == nil {
				shared = newKubelet(whole, net.Egress, "nameserver "+nettest.NodeV4+"\n")
			}
			k := *shared
			k.t, k.ns, k.logs = t, net.Egress, t.TempDir()
			p := podsOf(all[tt.input])[0]
			k.sandbox(p)
			k.sysctl("net.ipv4.ip_forward", "1") // as on most nodes
			runMigrated(t, net, &k, p)
			for what, want := range tt.expect {
				hear := func() string {
					if strings.HasPrefix(what, "http://") {
						return curl(t, net, what)
					}
					return reach(net, "tcp", atoi(t, what))
				}
				nettest.Eventually(t, what+" is served", func() bool { return strings.Contains(hear(), want) })
			}
		})
	}
}

// saw is names for clients of HTTP.
func saw(t *testing.T, net *nettest.Topology, addr string) {
	t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.RemoteAddr, ":")
		fmt.Fprintf(w, "saw %s\n", host)
	})}
	l := net.ServerA.Listen(addr)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// runMigrated starts the pod's containers, one after the other, and waits until they are ready.
func runMigrated(t *testing.T, net *nettest.Topology, k *kubelet, p pod) {
	t.Helper()
	volumes := func(c object) map[string]string {
		files := map[string]string{}
		for path, text := range keyFiles(p, c) {
			files[strings.TrimPrefix(path, "/etc/sluice/")] = text
		}
		if len(files) == 0 {
			return nil
		}
		return map[string]string{"/etc/sluice": newConfigMap(t, files).dir}
	}
	for _, c := range p.spec.list("initContainers") {
		run := k.start(p, c, p.environ(t, c), volumes(c))
		require.Zero(t, run.exit(), run.log(t))
	}
	main := p.spec.list("containers")[0]
	run := k.start(p, main, p.environ(t, main), volumes(main))
	if main.at("readinessProbe") != nil {
		nettest.Eventually(t, "it is ready", func() bool { return probe(t, net, main) == "200" })
		requirePowerless(t, run, "/", "/proc/sys")
	}
	if main.at("readinessProbe") == nil { // the others would wait for Services to know
		t.Cleanup(func() {
			require.NoError(t, run.cmd.Process.Signal(syscall.SIGTERM))
			assert.Zero(t, run.exit(), run.log(t))
		})
	}
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}
