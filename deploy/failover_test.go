package deploy

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// held are the overlays whose init container brings the address, over which the component
// failover goes.
var held = []string{"kustomize/overlays/multus-macvlan", "kustomize/overlays/openshift-sdn"}

// container is the one of that name, and whether it is there.
func (p pod) container(name string) (object, bool) {
	for _, containers := range p.containers() {
		for _, c := range containers {
			if c.text("name") == name {
				return c, true
			}
		}
	}
	return nil, false
}

// checkNetsetupHold has the program judge its settings. A variable that it does not read would
// be a warning, if it was one of Sluice's.
func checkNetsetupHold(t *testing.T, what string, environ, args []string) {
	t.Helper()
	for _, kv := range environ {
		require.Regexp(t, "^EGRESS_(ROUTER_MODE|SOURCE|POOL|GATEWAY)=", kv, "%s: nobody reads it", what)
	}
	cmd := exec.Command(built(t, "sluice-netsetup"), append(args, "--check")...)
	cmd.Env = append(slices.Clone(environ), "SLUICE_ADMIN=:9090")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", what, out)
	require.Empty(t, string(out), what)
}

// checkHeldService: a Service that sluice-kube hold writes the endpoints of has its name and
// its ports from it.
func checkHeldService(t *testing.T, s set, o object) {
	t.Helper()
	assert.Nil(t, o.at("spec", "selector"), "%s: it would lead to who waits as well", s.name)
	found := 0
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		for _, w := range s.kinds(kind) {
			p := pod{s.name, s, w, w.object("spec", "template", "spec"), nil, w.namespace()}
			c, ok := p.container("hold")
			if !ok {
				continue
			}
			found++
			environ := p.environ(t, c)
			assert.Contains(t, environ, "SLUICE_SERVICE="+o.name(), s.name)
			assert.Contains(t, environ, "SLUICE_LEASE="+o.name(), s.name)
			require.NotEmpty(t, o.list("spec", "ports"), s.name)
			gateway, _ := p.container("sluice")
			for i, port := range o.list("spec", "ports") {
				assert.Contains(t, texts(c, "args"), fmt.Sprintf("--endpoint=%s=%v", port.text("name"), port["port"]), s.name)
				assert.Equal(t, port["port"], gateway.list("ports")[i]["containerPort"], s.name)
				assert.Nil(t, port["targetPort"], "%s: nobody would heed it", s.name)
			}
		}
	}
	assert.Equal(t, 1, found, "%s: who writes the endpoints of %s?", s.name, o)
}

// checkHolding: the pods of a gateway that shares addresses.
func checkHolding(t *testing.T, p pod, groups int) {
	t.Helper()
	assert.Equal(t, groups+1, p.owner.at("spec", "replicas"), p)
	assert.NotEqual(t, "Recreate", p.owner.text("spec", "strategy", "type"), p)
	apart := p.spec.list("affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	require.Len(t, apart, 1, p)
	assert.Equal(t, "kubernetes.io/hostname", apart[0].text("topologyKey"), p)
	assert.Equal(t, p.owner.at("spec", "selector"), apart[0]["labelSelector"], "%s: its own kind, and no other gateway's", p)
	for _, budget := range p.all.kinds("PodDisruptionBudget") {
		assert.Equal(t, 1, budget.at("spec", "maxUnavailable"), p)
	}

	netsetup, ok := p.container("netsetup")
	require.True(t, ok, p)
	hold, ok := p.container("hold")
	require.True(t, ok, p)
	gateway, ok := p.container("sluice")
	require.True(t, ok, p)
	// As it is by default: so long a successor is waited for, then drained, then let go of.
	assert.Greater(t, p.grace(t), 15*time.Second+time.Second+10*time.Second, p)
	assert.Equal(t, []string{"netsetup-socket rw"}, mounts(netsetup), p)
	assert.Equal(t, []string{"holder-socket rw", "holder-token ro", "netsetup-socket ro"}, mounts(hold), p)
	assert.Subset(t, mounts(gateway), []string{"holder-socket ro"}, p)
	assert.NotContains(t, strings.Join(mounts(gateway), " "), "netsetup-socket", "%s: who faces the network cannot ask for addresses", p)
	assert.NotContains(t, strings.Join(mounts(gateway), " "), "token", p)

	// Each socket is where the other looks for it, and may be opened by its group.
	assert.Contains(t, texts(netsetup, "args"), "--hold-socket="+mounted(netsetup, "netsetup-socket")+"/hold.sock", p)
	assert.Contains(t, texts(hold, "args"), "--netsetup="+mounted(hold, "netsetup-socket")+"/hold.sock", p)
	assert.Contains(t, texts(hold, "args"), "--socket="+mounted(hold, "holder-socket")+"/serving.sock", p)
	assert.Contains(t, p.environ(t, gateway), "SLUICE_HOLDER="+mounted(gateway, "holder-socket")+"/serving.sock", p)
	assert.Equal(t, 65534, netsetup.at("securityContext", "runAsGroup"), "%s: the image's", p)
}

// mounted is where a container has a volume.
func mounted(c object, volume string) string {
	for _, m := range c.list("volumeMounts") {
		if m.text("name") == volume {
			return m.text("mountPath")
		}
	}
	return ""
}

// TestHolding: in all manifests.
func TestHolding(t *testing.T) {
	found := map[string]string{}
	for _, p := range pods(t) {
		if !p.holds() {
			continue
		}
		found[p.set] = p.owner.kind()
		gateway, _ := p.container("sluice")
		groups := 1
		if pool := p.poolOf(t); pool != nil {
			groups = len(pool)
			assert.NotContains(t, strings.Join(p.environ(t, gateway), " "), "EGRESS_SOURCE", "%s: what is held", p)
			assert.Equal(t, "ClientIP", p.all.find("Service", p.owner.name(), p.namespace).text("spec", "sessionAffinity"), p)
			assert.NotNil(t, p.all.find("Service", p.owner.text("spec", "serviceName"), p.namespace), p)
		}
		checkHolding(t, p, groups)
		checkHoldRights(t, p.all, p)
		checkHeldService(t, p.all, p.all.find("Service", p.owner.name(), p.namespace))
	}
	assert.Equal(t, map[string]string{"kustomize/overlays/active-standby": "Deployment", "kustomize/overlays/pool": "StatefulSet"}, found)
}

// poolOf are the groups of addresses of a pod that has several.
func (p pod) poolOf(t *testing.T) []string {
	t.Helper()
	netsetup, _ := p.container("netsetup")
	for _, kv := range p.environ(t, netsetup) {
		if pool, ok := strings.CutPrefix(kv, "EGRESS_POOL="); ok {
			return strings.Fields(pool)
		}
	}
	return nil
}

// TestFailover: upon each overlay that it goes over, in whatever namespace and under whatever
// name, with the directory and without, and on clusters that know no sidecars.
func TestFailover(t *testing.T) {
	for _, overlay := range held {
		for _, components := range [][]string{
			{"failover"}, {"failover", "without-native-sidecars"}, {"failover", "directory"}, {"directory", "failover"},
		} {
			s := upon(t, overlay, components, "namespace: proxies\nnamePrefix: my-\n")
			old := slices.Contains(components, "without-native-sidecars")
			require.Len(t, s.kinds("Deployment"), 1, s.name)
			d := s.kinds("Deployment")[0]
			p := pod{s.name, s, d, d.object("spec", "template", "spec"), nil, d.namespace()}
			for _, o := range s.objects {
				assert.Empty(t, judge(o), "%s: %s", s.name, o)
			}
			checkHolding(t, p, 1)
			checkHeldService(t, s, s.find("Service", "my-sluice", "proxies"))
			var order []string
			for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
				order = append(order, c.text("name"))
				assert.Equal(t, !old && slices.Contains([]string{"netsetup", "hold"}, c.text("name")), c.text("restartPolicy") == "Always", "%s: %s", s.name, c.text("name"))
			}
			want := []string{"netsetup", "hold", "sluice"}
			if old {
				want = []string{"sluice", "netsetup", "hold"}
				assert.Nil(t, p.spec["initContainers"], s.name)
			}
			assert.Equal(t, want, slices.DeleteFunc(order, func(name string) bool { return name == "directory" }), s.name)
			checkHoldRights(t, s, p)
			assert.Contains(t, portsOf(s.kinds("NetworkPolicy")[0].list("spec", "ingress")[1]), 9092, s.name)
			assert.Contains(t, portNames(object{"ports": s.find("Service", "my-sluice-admin", "proxies").at("spec", "ports")}), "hold", s.name)
		}
	}
}

// checkHoldRights: the role is for the account of the pod.
func checkHoldRights(t *testing.T, s set, p pod) {
	t.Helper()
	bindings := s.kinds("RoleBinding")
	require.Len(t, bindings, 1, s.name)
	assert.NotNil(t, s.find("Role", bindings[0].text("roleRef", "name"), p.namespace), s.name)
	subjects := bindings[0].list("subjects")
	require.Len(t, subjects, 1, s.name)
	assert.Equal(t, []string{"ServiceAccount", p.spec.text("serviceAccountName"), p.namespace},
		[]string{subjects[0].text("kind"), subjects[0].text("name"), subjects[0].text("namespace")}, s.name)
}

// TestFlowSchemaNamesTheAccount: what it favours is the gateway's account, where the overlays
// have it.
func TestFlowSchemaNamesTheAccount(t *testing.T) {
	found := 0
	for _, s := range rendered(t) {
		for _, o := range s.kinds("FlowSchema") {
			for _, rule := range o.list("spec", "rules") {
				for _, subject := range rule.list("subjects") {
					found++
					assert.NotNil(t, s.find("ServiceAccount", subject.text("serviceAccount", "name"), subject.text("serviceAccount", "namespace")))
					assert.Equal(t, []string{subject.text("serviceAccount", "namespace")}, texts(rule.list("resourceRules")[0], "namespaces"))
				}
			}
		}
	}
	assert.Equal(t, 1, found)
}

// TestNothingToHold: upon an overlay without the init container the component is refused.
func TestNothingToHold(t *testing.T) {
	refused := 0
	for _, name := range []string{"standalone", "without-macvlan", "multus-egress-router-cni"} {
		overlay := "kustomize/overlays/" + name
		_, err := kustomize(own(t, overlay, []string{"failover"}, ""))
		assert.ErrorContains(t, err, "initContainers", overlay)
		refused++
	}
	assert.Equal(t, 3, refused)
}
