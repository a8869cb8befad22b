package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// environment is what the component "client" has containers take.
func environment(t *testing.T) map[string]string {
	t.Helper()
	s := set{objects: build(t, "examples/clients")}
	m := s.find("ConfigMap", "sluice-client", "jobs")
	require.NotNil(t, m)
	all := map[string]string{}
	for name := range m.object("data") {
		all[name] = m.text("data", name)
	}
	return all
}

// TestClientEnvironment: both spellings say the same, and the proxy is the Service of the
// overlays.
func TestClientEnvironment(t *testing.T) {
	e := environment(t)
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		assert.NotEmpty(t, e[name])
		assert.Equal(t, e[name], e[strings.ToUpper(name)], name)
	}
	assert.Equal(t, e["http_proxy"], e["https_proxy"])
	gateway := set{objects: build(t, "kustomize/overlays/standalone")}
	service := gateway.find("Service", "sluice", "egress")
	require.NotNil(t, service)
	assert.Equal(t, "http://sluice.egress.svc:8080", e["http_proxy"])
	assert.Equal(t, 8080, service.list("spec", "ports")[0]["port"])
}

// TestClientIsLetIn: the gateway's policy lets the clients' namespace in, and the clients' policy
// lets them to the gateway's pods, of every overlay that is an HTTP proxy.
func TestClientIsLetIn(t *testing.T) {
	clients := set{"examples/clients", build(t, "examples/clients")}
	labels := clients.find("Namespace", "jobs", "").object("metadata", "labels")
	to := clients.find("NetworkPolicy", "sluice-client", "jobs").list("spec", "egress")[0].list("to")[0]
	for _, overlay := range append(slices.Clone(proxies), "kustomize/overlays/active-standby", "kustomize/overlays/pool") {
		p := only(t, overlay)
		policy := p.all.find("NetworkPolicy", "sluice", "egress")
		from := policy.list("spec", "ingress")[0].list("from")
		assert.True(t, slices.ContainsFunc(from, func(peer object) bool { return fits(peer.object("namespaceSelector"), labels) }), overlay)
		assert.True(t, fits(to.object("podSelector"), p.labels), overlay)
		assert.True(t, fits(to.object("namespaceSelector"), object{"kubernetes.io/metadata.name": p.namespace}), overlay)
	}
}

// fits reports whether a selector of labels fits the labels. Its expressions are all "In".
func fits(selector, labels object) bool {
	if selector == nil {
		return false
	}
	for name, value := range selector.object("matchLabels") {
		if labels[name] != value {
			return false
		}
	}
	for _, e := range selector.list("matchExpressions") {
		if e.text("operator") != "In" || !slices.Contains(texts(e, "values"), labels.text(e.text("key"))) {
			return false
		}
	}
	return true
}

// TestRecipes: each has the clients of the example's namespace take the variables of the component.
func TestRecipes(t *testing.T) {
	e := environment(t)
	read := func(name string) object {
		text, err := os.ReadFile("clients/" + name)
		require.NoError(t, err)
		return decode(t, text)[0]
	}
	from := []object{{"configMapRef": map[string]any{"name": "sluice-client"}}}

	sandbox := read("agent-sandbox.yaml")
	assert.Equal(t, "jobs", sandbox.namespace())
	assert.Equal(t, "Unmanaged", sandbox.text("spec", "networkPolicyManagement"))
	template := sandbox.object("spec", "podTemplate", "spec")
	assert.Equal(t, from, template.list("containers")[0].list("envFrom"))
	assert.Empty(t, judge(object{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any(template)}))

	task := read("tekton.yaml")
	assert.Equal(t, "jobs", task.namespace())
	assert.Equal(t, from, task.list("spec", "stepTemplate", "envFrom"))

	github := read("github-runner.yaml")
	runner := github.object("template", "spec")
	assert.Equal(t, from, runner.list("containers")[0].list("envFrom"))
	assert.Empty(t, judge(object{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any(runner)}))
	for _, scheme := range []string{"http", "https"} {
		assert.Equal(t, e[scheme+"_proxy"], github.text("proxy", scheme, "url"))
	}
	assert.Equal(t, strings.Split(e["no_proxy"], ","), texts(github, "proxy", "noProxy"))

	gitlab := read("gitlab-runner.yaml").text("runners", "config")
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^    "([A-Za-z_]+)=(.*)",$`).FindAllStringSubmatch(gitlab, -1) {
		found[m[1]] = m[2]
	}
	assert.Equal(t, e, found)
	assert.Contains(t, gitlab, `namespace = "jobs"`)

	script, err := os.ReadFile("clients/laptop.sh")
	require.NoError(t, err)
	for name := range maps.Keys(e) {
		assert.Contains(t, string(script), "--env "+map[bool]string{true: `"`}[strings.HasPrefix(strings.ToLower(name), "http")]+name+"=", name)
	}
}

// TestFirewallsSayTheSame: the ClusterNetworkPolicy accepts what the NetworkPolicy of the
// component does, and then denies the rest.
func TestFirewallsSayTheSame(t *testing.T) {
	clients := set{"examples/clients", build(t, "examples/clients")}
	var want, got []string
	for _, rule := range clients.find("NetworkPolicy", "sluice-client", "jobs").list("spec", "egress") {
		for _, port := range rule.list("ports") {
			want = append(want, peerText(t, rule.list("to")[0])+" "+strings.ToLower(port.text("protocol"))+" "+text(t, port["port"]))
		}
	}
	content, err := os.ReadFile("clients/cluster-network-policy.yaml")
	require.NoError(t, err)
	policy := decode(t, content)[0]
	var denied []string
	for _, rule := range policy.list("spec", "egress") {
		if rule.text("action") == "Deny" {
			denied = append(denied, text(t, rule["to"]))
			continue
		}
		require.Empty(t, denied, "the first that fits decides")
		for _, protocols := range rule.list("protocols") {
			for name := range protocols {
				got = append(got, peerText(t, rule.list("to")[0].object("pods"))+" "+name+" "+text(t, protocols.at(name, "destinationPort", "number")))
			}
		}
	}
	assert.ElementsMatch(t, want, got)
	assert.Equal(t, []string{`[{"namespaces":{}}]`, `[{"networks":["0.0.0.0/0","::/0"]}]`}, denied)
	label := clients.find("Namespace", "jobs", "").object("metadata", "labels")
	assert.True(t, fits(policy.object("spec", "subject", "namespaces"), label))
}

// peerText is a peer of a policy, with expressions as the labels that they stand for.
func peerText(t *testing.T, peer object) string {
	t.Helper()
	labels := map[string]any{}
	for _, selector := range []string{"namespaceSelector", "podSelector"} {
		maps.Copy(labels, peer.object(selector, "matchLabels"))
		for _, e := range peer.list(selector, "matchExpressions") {
			require.Len(t, texts(e, "values"), 1)
			labels[e.text("key")] = texts(e, "values")[0]
		}
	}
	return text(t, labels)
}

func text(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}
