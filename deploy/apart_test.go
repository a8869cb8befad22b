package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTwoGateways: two gateways of one namespace select their own pods, and each
// other's never: of the example, and of its labels upon any overlay.
func TestTwoGateways(t *testing.T) {
	requireApart(t, set{"two gateways", append(build(t, "kustomize/overlays/openshift-sdn"), build(t, "examples/second-gateway")...)})
	text, err := os.ReadFile("examples/second-gateway/kustomization.yaml")
	require.NoError(t, err)
	_, labels, ok := strings.Cut(string(text), "\nlabels:\n")
	require.True(t, ok)
	labels, _, _ = strings.Cut(labels, "\n\n")
	overlays, err := filepath.Glob("kustomize/overlays/*")
	require.NoError(t, err)
	for _, overlay := range overlays {
		first, second := upon(t, overlay, []string{"service-monitor"}, ""), upon(t, overlay, []string{"service-monitor"}, "namePrefix: payments-\nlabels:\n"+labels+"\n")
		requireApart(t, set{"two of " + overlay, append(first.objects, second.objects...)})
		if held := second.find("Service", "payments-sluice", "egress"); held != nil && held.at("spec", "selector") == nil {
			checkHeldService(t, second, held)
		}
	}
}

// requireApart: no object of both is there twice, and what selects pods selects those of one.
func requireApart(t *testing.T, both set) {
	t.Helper()
	require.Len(t, append(both.kinds("Deployment"), both.kinds("StatefulSet")...), 2, both.name)
	names := map[string]bool{}
	for _, o := range both.objects {
		if o.kind() != "Namespace" {
			assert.False(t, names[o.String()], "%s: %s is there twice", both.name, o)
			names[o.String()] = true
		}
		for kind, path := range selectors {
			if o.kind() == kind && o.at(path...) != nil {
				assert.Len(t, selected(both, o, path...), 1, "%s: %s", both.name, o)
			}
		}
		if o.kind() == "ServiceMonitor" {
			var found []string
			for _, service := range both.kinds("Service") {
				if matches(o.object("spec", "selector", "matchLabels"), service.object("metadata", "labels")) {
					found = append(found, service.name())
				}
			}
			assert.LessOrEqual(t, len(found), 1, "%s: %s finds %v", both.name, o, found)
		}
	}
	for _, p := range podsOf(both) {
		for _, apart := range p.spec.list("affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution") {
			assert.True(t, matches(apart.object("labelSelector", "matchLabels"), p.labels), "%s: it stays away from its own kind", p)
		}
	}
}

// selectors are where kinds select pods.
var selectors = map[string][]string{
	"Service": {"spec", "selector"}, "NetworkPolicy": {"spec", "podSelector", "matchLabels"},
	"PodDisruptionBudget": {"spec", "selector", "matchLabels"},
	"Deployment":          {"spec", "selector", "matchLabels"}, "StatefulSet": {"spec", "selector", "matchLabels"},
}

// TestBudgets: only where there is something to protect, which is more than one replica.
func TestBudgets(t *testing.T) {
	for _, p := range pods(t) {
		replicas, _ := p.owner.at("spec", "replicas").(int)
		budgets := 0
		for _, o := range p.all.kinds("PodDisruptionBudget") {
			if matches(o.object("spec", "selector", "matchLabels"), p.labels) {
				budgets++
			}
		}
		assert.Equal(t, map[bool]int{true: 1}[replicas > 1], budgets, p)
	}
}

// TestOnlyTheClustersDNS: a policy names whom it asks for names, and labels that kustomize adds
// to selectors do not get into that.
func TestOnlyTheClustersDNS(t *testing.T) {
	want := map[int]string{53: "k8s-app kube-dns", 5353: "dns.operator.openshift.io/daemonset-dns default"}
	found := 0
	for _, s := range append(rendered(t), upon(t, "kustomize/overlays/openshift-sdn", nil, "labels:\n- {pairs: {a: b}, includeSelectors: true}\n")) {
		for _, o := range s.kinds("NetworkPolicy") {
			for _, rule := range o.list("spec", "egress") {
				for _, port := range rule.list("ports") {
					n, _ := port["port"].(int)
					label, ok := want[n]
					if !ok {
						continue
					}
					found++
					require.Len(t, rule.list("to"), 1, "%s: %s", s.name, o)
					to := rule.list("to")[0]
					require.NotNil(t, to.at("namespaceSelector"), s.name)
					assert.Nil(t, to.at("podSelector", "matchLabels"), s.name)
					peer := to.list("podSelector", "matchExpressions")[0]
					assert.Equal(t, label, peer.text("key")+" "+texts(peer, "values")[0], s.name)
				}
			}
		}
	}
	assert.Greater(t, found, 20)
}
