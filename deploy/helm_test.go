package deploy

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var update = flag.Bool("update", false, "write what the chart renders into testdata/helm, and its table of values into its README")

const chart = "helm/sluice"

// rendering is a set of manifests that both kustomize and helm have.
type rendering struct {
	kustomize string
	values    string   // a file of the chart's examples
	release   string   // and instance
	more      []string // of helm's arguments: what the user says besides
}

// renderings are all of them: each overlay, and the example with the directory.
func renderings(t *testing.T) (all []rendering) {
	t.Helper()
	examples, err := filepath.Glob(chart + "/examples/*.yaml")
	require.NoError(t, err)
	for _, values := range examples {
		name := strings.TrimSuffix(filepath.Base(values), ".yaml")
		r := rendering{kustomize: "kustomize/overlays/" + name, values: values, release: "sluice"}
		switch name {
		case "redirect", "tcp":
			r.release = "sluice-" + name
		case "directory":
			r.kustomize = "examples/directory"
			r.more = []string{"--set-file=config=examples/directory/sluice.yaml"}
		default:
			r.more = []string{"--set-file=rules=kustomize/base/rules.txt"}
		}
		all = append(all, r)
	}
	overlays, err := filepath.Glob("kustomize/overlays/*")
	require.NoError(t, err)
	require.Len(t, all, len(overlays)+1, "each overlay has an example of the chart, and each example but the directory's an overlay")
	return all
}

// helm runs it. Its error is what it says.
func helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	program, err := nettest.Tool("..", "helm", "helm", "helm.sh/helm/v3")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", errors.New(strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// template is "helm template" of a release in the namespace egress.
func template(t testing.TB, release string, args ...string) ([]byte, error) {
	t.Helper()
	out, err := helm(t, append([]string{"template", release, chart, "--namespace=egress", "--set=image=sluice"}, args...)...)
	return []byte(out), err
}

func (r rendering) template(t testing.TB) []byte {
	t.Helper()
	out, err := template(t, r.release, append([]string{"--values=" + r.values}, r.more...)...)
	require.NoError(t, err, r.values)
	return out
}

// TestChartIsTheOverlays compares object by object.
func TestChartIsTheOverlays(t *testing.T) {
	for _, r := range renderings(t) {
		t.Run(filepath.Base(r.kustomize), func(t *testing.T) {
			want := normalised(t, build(t, r.kustomize))
			got := normalised(t, decode(t, r.template(t)))
			require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
			for name := range want {
				assert.Equal(t, want[name], got[name], name)
			}
		})
	}
}

// hashed is the name of a ConfigMap that has a hash of its content behind it.
var hashed = regexp.MustCompile(`-network-[0-9a-z]{10}"`)

// normalised are the objects as JSON, by kind and name, without what must differ: the Namespace,
// which helm does not make; helm's own labels and its test; the hash of a ConfigMap, which each
// makes in its way; the names of what is in no namespace, where the chart says whose it is;
// how the JSON of a network is set, and empty lists.
func normalised(t *testing.T, objects []object) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range objects {
		if o.kind() == "Namespace" || isHook(o) {
			continue
		}
		for _, label := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by"} {
			delete(o.object("metadata", "labels"), label)
		}
		if o.kind() == "NetworkAttachmentDefinition" {
			var config any
			require.NoError(t, json.Unmarshal([]byte(o.text("spec", "config")), &config))
			o.object("spec")["config"] = config
		}
		text, err := json.MarshalIndent(withoutEmptyLists(map[string]any(o)), "", " ")
		require.NoError(t, err)
		plain := hashed.ReplaceAllString(string(text), `-network-HASH"`)
		plain = strings.ReplaceAll(plain, `"egress-sluice-directory"`, `"sluice-directory"`)
		var named object
		require.NoError(t, json.Unmarshal([]byte(plain), &named))
		require.NotContains(t, all, named.String())
		all[named.String()] = plain
	}
	return all
}

// isHook reports whether helm keeps the object apart from the release: its test.
func isHook(o object) bool { return o.text("metadata", "annotations", "helm.sh/hook") != "" }

func withoutEmptyLists(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if list, ok := inner.([]any); ok && len(list) == 0 {
				delete(v, key)
				continue
			}
			v[key] = withoutEmptyLists(inner)
		}
	case []any:
		for i := range v {
			v[i] = withoutEmptyLists(v[i])
		}
	}
	return v
}

// TestChartGoldens: a change of what the chart renders shows in a review.
func TestChartGoldens(t *testing.T) {
	for _, r := range renderings(t) {
		golden := "testdata/helm/" + filepath.Base(r.values)
		got := r.template(t)
		if *update {
			require.NoError(t, os.WriteFile(golden, got, 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), "%s: go test ./deploy -run TestChart -update", golden)
	}
	goldens, err := filepath.Glob("testdata/helm/*")
	require.NoError(t, err)
	assert.Len(t, goldens, len(renderings(t)))
}

// TestChartRefuses: what does not go together is told all at once, with how to mend it; what is
// of the wrong kind is told by the schema.
func TestChartRefuses(t *testing.T) {
	const failed = "Error: execution error at (sluice/templates/service-account.yaml:1:4): \n  "
	const own, pool = "network.type=multus,network.gateway=192.0.2.1,", "network.type=multus,network.gateway=192.0.2.1,failover.enabled=true,"
	const noIPv4 = "it is no address: four numbers of 0 to 255, without zeros in front"
	for _, tt := range []struct{ values, want string }{
		{"image=", failed + "image: name the image, --set image=REGISTRY/sluice:VERSION"},
		{"network.type=multus", failed + "network.source: give the gateway its address, --set network.source=192.0.2.10/24; network.type multus needs one\n  network.gateway: give the gateway of network.source, --set network.gateway=192.0.2.1"},
		{"network.source=192.0.2.10/24", failed + "network.type: say where the address of network.source comes from, openshift-sdn, multus or egress-router-cni"},
		{"failover.enabled=true", failed + "failover.enabled: with network.type none there is no address that could move; take multus or openshift-sdn"},
		{"replicas=2,network.type=multus,network.source=192.0.2.10,network.gateway=192.0.2.1", failed + "replicas: one pod at a time can have the address of network.source; set failover.enabled, or leave replicas out"},
		{"failover.pool={192.0.2.10/24}", failed + "failover.pool: set failover.enabled, or nobody shares the pool"},
		{"failover.enabled=true,failover.pool={192.0.2.10/24},network.type=multus,network.source=192.0.2.10,network.gateway=192.0.2.1", failed + "network.source: leave it out, the addresses are those of failover.pool"},
		{"mode=tcp", failed + "tcp.destinations: give lines of PORT HOST [REMOTEPORT]; mode tcp needs them"},
		{"mode=redirect", failed + "redirect.destinations: give lines of PORT PROTOCOL ADDRESS [PORT], or an ADDRESS; mode redirect needs them\n  network.type: mode redirect needs openshift-sdn or multus, not none"},
		{"mode=tcp,tcp.destinations=443 a.test,rules=*", failed + "rules, config, directory.enabled, socks.enabled: mode tcp has none of them; take mode proxy"},
		{"mode=tcp,tcp.destinations=443 a.test,failover.enabled=true,network.type=multus,network.source=192.0.2.10,network.gateway=192.0.2.1", failed + "failover.enabled: mode tcp has one replica; take mode proxy"},
		{"rules=*,config=a: b", failed + "rules: leave it out, the rules stand in config"},
		{"directory.enabled=true", failed + "config: say which tenants there are; directory.enabled is for them"},
		{"mode=tcp,tcp.destinations=9090 a.test", failed + "tcp.destinations: port 9090 is the admin port of the gateway; take another"},
		{"mode=tcp,tcp.destinations=# none", failed + "tcp.destinations: no line begins with a port"},
		{"mode=tcp,tcp.destinations=80 a.test\n80 b.test\n99999 c.test", failed + "tcp.destinations: TCP port 80 is there twice\n  tcp.destinations: TCP port 99999: ports are 1 to 65535"},
		{"mode=redirect,redirect.destinations=80 icmp 192.0.2.1,network.type=multus,network.source=192.0.2.10,network.gateway=192.0.2.1", failed + "redirect.destinations: ICMP port 80: protocols are tcp, udp and sctp"},
		{"env[0].name=GOMEMLIMIT,env[0].value=a,env[1].name=A,env[2].name=A", failed + "env: GOMEMLIMIT stands there twice, or another value says it; leave one out\n  env: A stands there twice, or another value says it; leave one out"},
		{own + "network.source=64:ff9b::192.0.2.1/64", failed + "network.source: 64:ff9b::192.0.2.1/64: write it in hexadecimal alone, or the address of IPv4 if it is one"},
		{own + "network.source=::ffff:c000:20a/120", failed + "network.source: ::ffff:c000:20a/120: write it as an address of IPv4, which it is"},
		{own + "network.source=hello", failed + "network.source: hello: " + noIPv4},
		{own + "network.source=192.0.2.999/24\\,192.0.2.010/24\\,192.0.2/24 192.0.2.1.1", failed + "network.source: 192.0.2.999/24: " + noIPv4 + "\n  network.source: 192.0.2.010/24: " + noIPv4 + "\n  network.source: 192.0.2/24: " + noIPv4 + "\n  network.source: 192.0.2.1.1: " + noIPv4},
		{own + "network.source=192.0.2.10/33\\,192.0.2.11/\\,2001:db8::1/129\\,192.0.2.12/24/24", failed + "network.source: 192.0.2.10/33: the length is 0 to 32\n  network.source: 192.0.2.11/: the length is missing behind its slash\n  network.source: 2001:db8::1/129: the length is 0 to 128\n  network.source: 192.0.2.12/24/24: the length is 0 to 32"},
		{own + "network.source=2001:db8\\,1::2::3\\,1:2:3:4:5:6:7:8:9\\,:::1\\,1:2:3:4:5:6:7::8\\,12345::1\\,fe80::1%eth0", failed + "network.source: 2001:db8: it is no address\n  network.source: 1::2::3: it is no address\n  network.source: 1:2:3:4:5:6:7:8:9: it is no address\n  network.source: :::1: it is no address\n  network.source: 1:2:3:4:5:6:7::8: it is no address\n  network.source: 12345::1: it is no address\n  network.source: fe80::1%eth0: it is no address"},
		{pool + "failover.pool={192.0.2.10/24,192.0.2.10/32}", failed + "failover.pool: 192.0.2.10/32 is there twice; leave one out"},
		{pool + "failover.pool={192.0.2.10/24\\,2001:db8::1/64,2001:DB8:0::1}", failed + "failover.pool: 2001:DB8:0::1 is there twice; leave one out"},
		{own + "network.source=192.0.2.10/24,failover.enabled=true,replicas=1", failed + "replicas: with failover.enabled one has nobody that takes over; leave it out, or give 2 or more"},
		{pool + "failover.pool={192.0.2.10/24,192.0.2.11/24,192.0.2.12/24},replicas=2", failed + "replicas: failover.pool has 3 groups, and 2 replicas hold one each; leave it out, or give 4 or more"},
		{own + "network.source=192.0.2.10/24,failover.enabled=true,terminationGracePeriodSeconds=26", failed + "terminationGracePeriodSeconds: 26 is too short: a replica with failover.enabled waits 15 s for a successor, drains for 1 s and needs 10 s besides; give more than 26"},
		{"terminationGracePeriodSeconds=35", failed + "terminationGracePeriodSeconds: 35 is not more than shutdownDelay, 5s, and --drain-timeout, 30s, together: connections would be cut; give more than 35"},
		{"shutdownDelay=40s", failed + "terminationGracePeriodSeconds: 45 is not more than shutdownDelay, 40s, and --drain-timeout, 30s, together: connections would be cut; give more than 70"},
		{"shutdownDelay=0.5m,env[0].name=SLUICE_DRAIN_TIMEOUT,env[0].value=15s", failed + "terminationGracePeriodSeconds: 45 is not more than shutdownDelay, 0.5m, and --drain-timeout, 15s, together: connections would be cut; give more than 45"},
		{"fullnameOverride=" + strings.Repeat("n", 51), "at '/fullnameOverride': maxLength: got 51, want 50"},
		{"env[0].name=A,env[0].value=1", "at '/env/0/value': got number, want string"},
		{"networkPolicy.apiServer={a: b}", "at '/networkPolicy/apiServer/0': 'a: b' does not match pattern"},
		{"mode=http", "at '/mode': value must be one of 'proxy', 'tcp', 'redirect'"},
		{"rule=*", "additional properties 'rule' not allowed"},
		{"replicas=-1", "at '/replicas': minimum: got -1, want 0"},
		{"networkPolicy.dns=kube-dns", "at '/networkPolicy/dns': got string, want array"},
	} {
		_, err := template(t, "sluice", "--set="+tt.values)
		require.Error(t, err, tt.values)
		if strings.HasPrefix(tt.want, failed) {
			assert.Equal(t, tt.want, strings.TrimSuffix(err.Error(), "\n\nUse --debug flag to render out invalid YAML"), tt.values)
		} else {
			assert.Contains(t, err.Error(), tt.want, tt.values)
		}
	}
	_, err := template(t, "sluice", "--set="+own+"network.source=192.0.2.10/24,failover.enabled=true,replicas=0")
	assert.NoError(t, err, "nobody for a while, as a change of the groups wants it")
}

// TestChartNames: names that YAML would take for something else, of the longest that helm has, and
// those of which no Service can be.
func TestChartNames(t *testing.T) {
	long := strings.Repeat("n", 49) + "--nn"
	for _, name := range [][3]string{{"true", "on", "true-sluice"}, {"no", "123", "no-sluice"}, {"sluice", "1e5", "sluice"}, {long, "a", long[:49]}, {"override", "a", "y"}} {
		out, err := helm(t, "template", name[0], chart, "--namespace="+name[1], "--set=image=i,replicas=0", "--set-string=fullnameOverride="+map[bool]string{true: "y"}[name[0] == "override"])
		require.NoError(t, err)
		objects := decode(t, []byte(out))
		for _, o := range objects {
			assert.Equal(t, name[1], o["metadata"].(map[string]any)["namespace"], o)
			assert.Equal(t, name[0], o.object("metadata", "labels")["app.kubernetes.io/instance"], o)
			assert.Empty(t, judge(o), o)
		}
		p := podsOf(set{"helm", slices.DeleteFunc(objects, isHook)})[0]
		assert.Equal(t, name[2], p.owner.at("metadata", "name"))
		assert.Equal(t, 0, p.owner.at("spec", "replicas"), "not one, when none is asked for")
	}
	for _, name := range []string{"1", "a.b"} {
		_, err := helm(t, "template", name, chart, "--set=image=i")
		assert.ErrorContains(t, err, "fullnameOverride: the release's name makes "+name+"-sluice, which no Service can have; give a name of small letters, digits and hyphens that begins with a letter")
	}
}

// TestChartOfNobody: what is empty lets nobody in, and nothing out. In a NetworkPolicy an empty
// list of peers is everybody.
func TestChartOfNobody(t *testing.T) {
	for _, empty := range []string{"[]", "null"} {
		out, err := template(t, "sluice", "--set-json=networkPolicy="+`{"clients":`+empty+`,"dns":`+empty+`,"destinations":`+empty+`,"monitoring":`+empty+`}`)
		require.NoError(t, err)
		spec := set{"", decode(t, out)}.find("NetworkPolicy", "sluice", "egress").object("spec")
		assert.Empty(t, spec["ingress"])
		assert.Empty(t, spec["egress"])
		assert.Equal(t, []any{"Ingress", "Egress"}, spec["policyTypes"])
	}
}

// variants are values that no overlay has.
var variants = map[string][]string{
	"a file of settings":        {"--set-file=config=examples/directory/sluice.yaml", "--set=directory.enabled=true,network.type=none,replicas=3"},
	"before Kubernetes 1.29":    {"--values=" + chart + "/examples/active-standby.yaml", "--set=failover.nativeSidecars=false"},
	"a pool with the directory": {"--values=" + chart + "/examples/pool.yaml", "--set=directory.enabled=true", "--set-file=config=examples/directory/sluice.yaml"},
	"TCP, of no address":        {"--values=" + chart + "/examples/tcp.yaml", "--set=network.type=none,network.source=,network.gateway="},
	"TCP by Multus":             {"--values=" + chart + "/examples/tcp.yaml", "--set=network.type=multus,serviceMonitor.enabled=true"},
	"TCP by the CNI plugin":     {"--values=" + chart + "/examples/tcp.yaml", "--set=network.type=egress-router-cni"},
	"redirect by Multus":        {"--values=" + chart + "/examples/redirect.yaml", "--set=network.type=multus,redirect.forward=true"},
	"all that can be said": {"--set=imagePullPolicy=Always,imagePullSecrets[0].name=registry,fullnameOverride=door,replicas=2,env[0].name=SLUICE_CONTACT,env[0].value=me,terminationGracePeriodSeconds=60,service.type=LoadBalancer,service.annotations.a=b",
		"--set=serviceMonitor.enabled=true,serviceMonitor.interval=10s,serviceMonitor.labels.release=prometheus,podAnnotations.a=b,podLabels.team=a,nodeSelector.a=b,tolerations[0].operator=Exists,goMemLimit=1GiB",
		"--set-json=affinity={\"nodeAffinity\":{}}"},
	"SOCKS":                    {"--set=socks.enabled=true"},
	"SOCKS, one holds":         {"--values=" + chart + "/examples/active-standby.yaml", "--set=socks.enabled=true"},
	"nothing around it":        {"--set=networkPolicy.enabled=false,podDisruptionBudget.enabled=false,replicas=2"},
	"one of a pool, with IPv6": {"--values=" + chart + "/examples/pool.yaml", "--set=failover.pool={192.0.2.10/24\\,2001:db8::10/64,2001:db8:0:0:0:0:0:11/64},network.gateway=192.0.2.1\\,2001:db8::1"},
	"it ends soon":             {"--set=terminationGracePeriodSeconds=12,env[0].name=SLUICE_DRAIN_TIMEOUT,env[0].value=1500ms"},
	"one API server":           {"--values=" + chart + "/examples/active-standby.yaml", "--set=networkPolicy.apiServer={192.0.2.1/32}"},
}

// TestChartVariants: they hold what the overlays hold.
func TestChartVariants(t *testing.T) {
	for name, args := range variants {
		out, err := template(t, "sluice", args...)
		require.NoError(t, err, name)
		s := set{"helm/" + name, slices.DeleteFunc(decode(t, out), isHook)}
		level := map[bool]string{true: "privileged", false: "restricted"}[strings.Contains(string(out), "NET_ADMIN")]
		s.objects = append(s.objects, object{"kind": "Namespace", "apiVersion": "v1", "metadata": map[string]any{"name": "egress",
			"labels": map[string]any{"pod-security.kubernetes.io/enforce": level}}})
		for _, o := range s.objects {
			for _, problem := range judge(o) {
				t.Errorf("%s: %s: %s", name, o, problem)
			}
		}
		checkReferences(t, s)
		for _, p := range podsOf(s) {
			checkPrivileges(t, p)
			checkAllSettings(t, p, map[string]bool{})
			if p.holds() {
				checkHolding(t, p, max(1, len(strings.Fields(strings.Join(p.poolOf(t), " ")))))
			}
		}
	}
}

// TestChartEnd: the delay reaches the gateway, of a proxy and of TCP.
func TestChartEnd(t *testing.T) {
	for _, example := range []string{"standalone", "tcp"} {
		out, err := template(t, "sluice", "--values="+chart+"/examples/"+example+".yaml", "--set=shutdownDelay=7s,terminationGracePeriodSeconds=50")
		require.NoError(t, err)
		p := podsOf(set{"helm/" + example, decode(t, out)})[0]
		gateway, _ := p.container("sluice")
		assert.Contains(t, p.environ(t, gateway), "SLUICE_SHUTDOWN_DELAY=7s", example)
		assert.Equal(t, 50, p.spec["terminationGracePeriodSeconds"], example)
	}
}

// TestChartSOCKS: the port is the gateway's, the Service's, the policy's, and of who writes endpoints.
func TestChartSOCKS(t *testing.T) {
	for example, endpoint := range map[string]bool{"standalone": false, "active-standby": true} {
		for _, on := range []bool{false, true} {
			out, err := template(t, "sluice", "--values="+chart+"/examples/"+example+".yaml", fmt.Sprintf("--set=socks.enabled=%v", on))
			require.NoError(t, err)
			s := set{"helm/" + example, decode(t, out)}
			p := podsOf(s)[0]
			gateway, _ := p.container("sluice")
			assert.Equal(t, on, slices.Contains(p.environ(t, gateway), "SLUICE_LISTEN_SOCKS=:1080"), example)
			assert.Equal(t, on, strings.Contains(string(out), "\n    - protocol: TCP\n      port: 1080\n"), example)
			assert.Equal(t, on, strings.Contains(string(out), "\n  - name: socks\n    port: 1080\n"), example)
			assert.Equal(t, on && endpoint, strings.Contains(string(out), "--endpoint=socks=1080"), example)
		}
	}
}

// TestChartIsTwice: two releases of one namespace select their own pods, and no other's, and
// have no object together.
func TestChartIsTwice(t *testing.T) {
	var both set
	for _, release := range []string{"sluice", "payments"} {
		out, err := template(t, release, "--values="+chart+"/examples/active-standby.yaml", "--set=serviceMonitor.enabled=true,failover.enabled=false")
		require.NoError(t, err)
		both.objects = append(both.objects, decode(t, out)...)
	}
	requireApart(t, both)
}

// TestVersionIsOne: the chart's, and that of the overlays.
func TestVersionIsOne(t *testing.T) {
	text, err := os.ReadFile(chart + "/Chart.yaml")
	require.NoError(t, err)
	c := decode(t, text)[0]
	assert.Equal(t, c.text("appVersion"), "v"+c.text("version"))
	text, err = os.ReadFile("kustomize/components/version/kustomization.yaml")
	require.NoError(t, err)
	assert.Equal(t, c.text("appVersion"), decode(t, text)[0].list("labels")[0].text("pairs", "app.kubernetes.io/version"))
	for _, s := range rendered(t) {
		if !strings.HasPrefix(s.name, "kustomize/") {
			continue
		}
		for _, o := range s.objects {
			assert.Equal(t, c.text("appVersion"), o.text("metadata", "labels", "app.kubernetes.io/version"), "%s: %s", s.name, o)
		}
	}
}

// TestChartValues: the table of the README has each value, with its default and what the schema
// says of it; and neither file has a value that the other lacks.
func TestChartValues(t *testing.T) {
	var schema, defaults map[string]any
	text, err := os.ReadFile(chart + "/values.schema.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &schema))
	text, err = os.ReadFile(chart + "/values.yaml")
	require.NoError(t, err)
	defaults = decode(t, text)[0]
	var rows []string
	walkValues(t, "", schema, defaults, &rows)
	require.Greater(t, len(rows), 30)
	slices.Sort(rows)
	table := "| value | default | means |\n| --- | --- | --- |\n" + strings.Join(rows, "\n") + "\n"

	const begin, end = "-update -->\n", "<!-- /values -->"
	readme, err := os.ReadFile(chart + "/README.md")
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(readme), begin)
	require.True(t, ok)
	now, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(chart+"/README.md", []byte(before+begin+table+end+after), 0o644))
		return
	}
	assert.Equal(t, table, now)
}

// walkValues adds a row for each value beneath the path, with its default in values.yaml.
func walkValues(t *testing.T, path string, schema, defaults map[string]any, rows *[]string) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name := range defaults {
		assert.Contains(t, properties, name, "%s of values.yaml, in the schema", path+name)
	}
	for name, v := range properties {
		s := v.(map[string]any)
		if path == "" && name == "global" {
			continue // helm's own
		}
		require.Contains(t, defaults, name, "%s of the schema, in values.yaml", path+name)
		require.NotEmpty(t, s["description"], path+name)
		if s["properties"] != nil {
			walkValues(t, path+name+".", s, defaults[name].(map[string]any), rows)
			continue
		}
		value, err := json.Marshal(defaults[name])
		require.NoError(t, err)
		shown := "`" + string(value) + "`"
		if len(shown) > 60 {
			shown = "see values.yaml"
		}
		*rows = append(*rows, "| `"+path+name+"` | "+shown+" | "+s["description"].(string)+" |")
	}
}

// The chart calls a group as sluice-netsetup does: by the lowest of its addresses.
func TestChartNamesGroups(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var values, want []string
	seen := map[netip.Addr]bool{} // an address is in one group
	for range 200 {
		var addrs []netip.Addr
		var texts []string
		for range 1 + random.IntN(4) {
			var b [16]byte
			for i := range b {
				b[i] = byte(random.Uint32() & random.Uint32() & random.Uint32()) // with zeros in a row
			}
			a := netip.AddrFrom16(b)
			if random.IntN(2) == 0 {
				a = netip.AddrFrom4([4]byte(b[:4]))
			}
			if seen[a] && len(addrs) > 0 {
				continue
			}
			for seen[a] {
				a = a.Next()
			}
			seen[a] = true
			addrs = append(addrs, a)
			texts = append(texts, []string{strings.ToUpper(a.String()), a.StringExpanded()}[random.IntN(2)]+[]string{"", "/24"}[random.IntN(2)])
		}
		values = append(values, fmt.Sprintf("%q", strings.Join(texts, ",")))
		want = append(want, "sluice-"+holding.GroupName(addrs))
	}
	out, err := template(t, "sluice", "--values="+chart+"/examples/pool.yaml", "--set-json=failover.pool=["+strings.Join(values, ",")+"]")
	require.NoError(t, err)
	var got []string
	for _, o := range decode(t, out) {
		if o.kind() == "Lease" {
			got = append(got, o.text("metadata", "name"))
		}
	}
	assert.ElementsMatch(t, want, got)
}

// The gateway alone sees the Secrets that its configuration names files of.
func TestChartMountsSecrets(t *testing.T) {
	out, err := template(t, "sluice", "--values="+chart+"/examples/active-standby.yaml",
		`--set-json=secrets=[{"name": "inspect-ca", "mountPath": "/etc/sluice-ca"}, {"name": "tokens", "mountPath": "/run/tokens"}]`, "--set=fsGroup=1234")
	require.NoError(t, err)
	for _, o := range decode(t, out) {
		if o.kind() != "Deployment" {
			continue
		}
		pod := o.object("spec", "template", "spec")
		text, err := json.Marshal(pod["volumes"])
		require.NoError(t, err)
		assert.Contains(t, string(text), `{"name":"secret-0","secret":{"defaultMode":288,"secretName":"inspect-ca"}},{"name":"secret-1","secret":{"defaultMode":288,"secretName":"tokens"}}`)
		for _, list := range []string{"containers", "initContainers"} {
			for _, c := range pod[list].([]any) {
				text, err := json.Marshal(c)
				require.NoError(t, err)
				mounted := strings.Contains(string(text), `{"mountPath":"/etc/sluice-ca","name":"secret-0","readOnly":true},{"mountPath":"/run/tokens","name":"secret-1","readOnly":true}`)
				assert.Equal(t, list == "containers", mounted, string(text))
			}
		}
		text, err = json.Marshal(pod["securityContext"])
		require.NoError(t, err)
		assert.Contains(t, string(text), `"fsGroup":1234`)
	}
	_, err = template(t, "sluice", "--values="+chart+"/examples/standalone.yaml", `--set-json=secrets=[{"name": "inspect-ca"}]`)
	assert.ErrorContains(t, err, "mountPath")
}
