package deploy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

// pod is a pod, or a Deployment's or StatefulSet's template of one.
type pod struct {
	set       string
	all       set
	owner     object
	spec      object
	labels    object
	namespace string
}

func pods(t *testing.T) []pod {
	t.Helper()
	var all []pod
	for _, s := range rendered(t) {
		all = append(all, podsOf(s)...)
	}
	require.Greater(t, len(all), 7)
	return all
}

func podsOf(s set) (all []pod) {
	for _, o := range s.objects {
		switch o.kind() {
		case "Pod":
			all = append(all, pod{s.name, s, o, o.object("spec"), o.object("metadata", "labels"), o.namespace()})
		case "Deployment", "StatefulSet":
			template := o.object("spec", "template")
			all = append(all, pod{s.name, s, o, template.object("spec"), template.object("metadata", "labels"), o.namespace()})
		}
	}
	return all
}

func (p pod) String() string { return p.set + ": " + p.owner.String() }

// containers of the image, with whether each is an init container, which ends before the others
// begin; a sidecar, which does not; or one of the others.
func (p pod) containers() map[string][]object {
	all := map[string][]object{"main": p.spec.list("containers")}
	for _, c := range p.spec.list("initContainers") {
		kind := map[bool]string{true: "sidecar", false: "init"}[c.text("restartPolicy") == "Always"]
		all[kind] = append(all[kind], c)
	}
	return all
}

// holds reports whether the pod's gateway waits for its turn with an address that several have.
func (p pod) holds() bool {
	return slices.ContainsFunc(p.spec.list("containers"), func(c object) bool {
		return slices.ContainsFunc(c.list("env"), func(e object) bool { return e.text("name") == "SLUICE_HOLDER" })
	})
}

// TestReferences follows every name from one object to another.
func TestReferences(t *testing.T) {
	for _, s := range rendered(t) {
		checkReferences(t, s)
	}
}

func checkReferences(t *testing.T, s set) {
	t.Helper()
	for _, p := range podsOf(s) {
		if name := p.spec.text("serviceAccountName"); name != "" {
			assert.NotNil(t, p.all.find("ServiceAccount", name, p.namespace), "%s: ServiceAccount %s", p, name)
		}
		for _, v := range p.spec.list("volumes") {
			for _, name := range configMaps(v) {
				if name == "sluice-bundle" { // which its user makes of a CA
					page, err := os.ReadFile("../docs/sandbox.md")
					require.NoError(t, err)
					assert.Contains(t, string(page), "create configmap "+name, p)
					continue
				}
				assert.NotNil(t, p.all.find("ConfigMap", name, p.namespace), "%s: ConfigMap %s", p, name)
			}
		}
		for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
			checkContainer(t, p, c)
		}
		if p.owner.kind() != "Pod" {
			assert.True(t, matches(p.owner.object("spec", "selector", "matchLabels"), p.labels), "%s selects its pods", p)
		}
	}
	for _, o := range s.objects {
		switch o.kind() {
		case "Service":
			checkService(t, s, o)
		case "NetworkPolicy":
			if o.at("spec", "podSelector", "matchLabels") != nil { // else all pods
				assert.NotEmpty(t, selected(s, o, "spec", "podSelector", "matchLabels"), "%s: %s", s.name, o)
			}
		case "PodDisruptionBudget":
			assert.NotEmpty(t, selected(s, o, "spec", "selector", "matchLabels"), "%s: %s", s.name, o)
		case "ServiceMonitor":
			checkServiceMonitor(t, s, o)
		}
		if o.kind() != "Namespace" && o.namespace() != "" {
			assert.NotNil(t, s.find("Namespace", o.namespace(), ""), "%s: %s: namespace %s", s.name, o, o.namespace())
		}
	}
}

// checkContainer: ports that are probed and volumes that are mounted are there.
func checkContainer(t *testing.T, p pod, c object) {
	t.Helper()
	ports := portNames(c)
	for _, probe := range []string{"readinessProbe", "livenessProbe"} {
		if port := c.text(probe, "httpGet", "port"); port != "" {
			assert.Contains(t, ports, port, "%s: %s", p, probe)
		}
	}
	for _, m := range c.list("volumeMounts") {
		found := slices.ContainsFunc(p.spec.list("volumes"), func(v object) bool { return v.text("name") == m.text("name") })
		assert.True(t, found, "%s: volume %s", p, m.text("name"))
		assert.Empty(t, m.text("subPath"), "%s: a subPath is never updated", p)
	}
}

// configMaps are those that a volume needs and that the manifests make: the one with the
// API server's certificates is in every namespace.
func configMaps(volume object) (names []string) {
	switch {
	case volume["emptyDir"] != nil:
	case volume["projected"] != nil:
		for _, source := range volume.list("projected", "sources") {
			if name := source.text("configMap", "name"); name != "" && name != "kube-root-ca.crt" {
				names = append(names, name)
			}
		}
	default:
		names = append(names, volume.text("configMap", "name"))
	}
	return names
}

func portNames(c object) (names []string) {
	for _, port := range c.list("ports") {
		names = append(names, port.text("name"))
	}
	return names
}

// matches reports whether the labels have all of the selector's, which has some.
func matches(selector, labels object) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

// selected are the pods that the selector at the path of o selects.
func selected(s set, o object, path ...string) (specs []object) {
	for _, w := range slices.Concat(s.kinds("Pod"), s.kinds("Deployment"), s.kinds("StatefulSet")) {
		labels, spec := w.object("metadata", "labels"), w.object("spec")
		if w.kind() != "Pod" {
			labels, spec = w.object("spec", "template", "metadata", "labels"), w.object("spec", "template", "spec")
		}
		if w.namespace() == o.namespace() && matches(o.object(path...), labels) {
			specs = append(specs, spec)
		}
	}
	return specs
}

func checkService(t *testing.T, s set, o object) {
	t.Helper()
	if o.at("spec", "selector") == nil {
		checkHeldService(t, s, o)
		return
	}
	specs := selected(s, o, "spec", "selector")
	assert.Len(t, specs, 1, "%s: %s", s.name, o)
	for _, spec := range specs {
		var names []string
		for _, c := range append(spec.list("initContainers"), spec.list("containers")...) {
			names = append(names, portNames(c)...)
		}
		for _, port := range o.list("spec", "ports") {
			if target := port.text("targetPort"); target != "" {
				assert.Contains(t, names, target, "%s: %s", s.name, o)
			}
		}
	}
}

func checkServiceMonitor(t *testing.T, s set, o object) {
	t.Helper()
	for _, service := range s.kinds("Service") {
		if !matches(o.object("spec", "selector", "matchLabels"), service.object("metadata", "labels")) {
			continue
		}
		for _, port := range service.list("spec", "ports") {
			if port.text("name") == o.list("spec", "endpoints")[0].text("port") {
				return
			}
		}
	}
	t.Errorf("%s: %s finds no port of a Service", s.name, o)
}

// TestPrivileges: two capabilities for what sets the network up, none for what
// faces it, and nothing else beyond the pod security level "restricted".
func TestPrivileges(t *testing.T) {
	for _, p := range pods(t) {
		checkPrivileges(t, p)
	}
}

func checkPrivileges(t *testing.T, p pod) {
	t.Helper()
	assert.Equal(t, false, p.spec["automountServiceAccountToken"], p)
	assert.Equal(t, "RuntimeDefault", p.spec.text("securityContext", "seccompProfile", "type"), p)
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		assert.Nil(t, p.spec[key], p)
	}
	privileged := false
	for kind, containers := range p.containers() {
		for _, c := range containers {
			sc := c.object("securityContext")
			assert.Equal(t, false, sc["allowPrivilegeEscalation"], "%s: %s", p, c.text("name"))
			assert.Equal(t, true, sc["readOnlyRootFilesystem"], "%s: %s", p, c.text("name"))
			assert.Nil(t, sc["privileged"], "%s: %s", p, c.text("name"))
			assert.Equal(t, []any{"ALL"}, sc.at("capabilities", "drop"), "%s: %s", p, c.text("name"))
			if slices.Contains(texts(c, "command"), "/sluice-netsetup") {
				privileged = true
				assert.Equal(t, []any{"NET_ADMIN", "NET_RAW"}, sc.at("capabilities", "add"), "%s: %s", p, c.text("name"))
				assert.Equal(t, 0, sc["runAsUser"], "%s: %s", p, c.text("name"))
				continue
			}
			assert.NotEqual(t, "init", kind, "%s: %s", p, c.text("name"))
			assert.Nil(t, sc.at("capabilities", "add"), "%s: %s", p, c.text("name"))
			assert.Equal(t, true, p.spec.at("securityContext", "runAsNonRoot"), "%s: %s", p, c.text("name"))
			assert.Nil(t, sc["runAsNonRoot"], "%s: %s", p, c.text("name"))
		}
	}
	if ns := p.all.find("Namespace", p.namespace, ""); ns != nil {
		level := map[bool]string{true: "privileged", false: "restricted"}[privileged]
		assert.Equal(t, level, ns.text("metadata", "labels", "pod-security.kubernetes.io/enforce"), p)
	}
}

// texts are the texts in the list at the path.
func texts(o object, path ...string) (all []string) {
	list, _ := o.at(path...).([]any)
	for _, v := range list {
		all = append(all, fmt.Sprint(v))
	}
	return all
}

// environ is the environment of a container, with what it takes out of ConfigMaps.
func (p pod) environ(t *testing.T, c object) (all []string) {
	t.Helper()
	for _, e := range c.list("env") {
		value := e.text("value")
		if field := e.text("valueFrom", "fieldRef", "fieldPath"); field != "" {
			value = downward[field]
			require.NotEmpty(t, value, "%s: %s", p, e.text("name"))
		}
		if ref := e.object("valueFrom", "configMapKeyRef"); ref != nil {
			m := p.all.find("ConfigMap", ref.text("name"), p.namespace)
			require.NotNil(t, m, "%s: ConfigMap %s", p, ref.text("name"))
			value = m.text("data", ref.text("key"))
			require.NotEmpty(t, value, "%s: %s", p, e.text("name"))
		}
		all = append(all, e.text("name")+"="+value)
	}
	return all
}

// downward is what the downward API says of a pod.
var downward = map[string]string{
	"metadata.name": "sluice-0", "metadata.namespace": "egress", "metadata.uid": "0e9f2f5a-3a64-4b1d-9d7e-000000000001",
	"status.podIPs": "10.128.0.3,fd00:128::3", "spec.nodeName": "node-0",
}

// readFile reads the files that a container finds in its ConfigMaps.
func (p pod) readFile(c object) func(string) ([]byte, error) {
	files := map[string]string{}
	for _, m := range c.list("volumeMounts") {
		for _, v := range p.spec.list("volumes") {
			if v.text("name") == m.text("name") && v["configMap"] != nil {
				data := p.all.find("ConfigMap", v.text("configMap", "name"), p.namespace).object("data")
				for name := range data {
					files[m.text("mountPath")+"/"+name] = data.text(name)
				}
			}
		}
	}
	return func(path string) ([]byte, error) {
		text, ok := files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
}

// TestSettings loads each container's settings as the program in it will. A
// variable that nobody reads is an error too.
func TestSettings(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range pods(t) {
		checkAllSettings(t, p, seen)
	}
	require.Equal(t, map[string]bool{"proxy": true, "tcp": true, "/sluice-netsetup": true, "/sluice-kube": true, "sleep": true}, seen)
}

// checkAllSettings loads those of all containers, and notes in seen what runs in them.
func checkAllSettings(t *testing.T, p pod, seen map[string]bool) {
	t.Helper()
	for _, containers := range p.containers() {
		for _, c := range containers {
			command := append(texts(c, "command"), texts(c, "args")...)
			checkSettings(t, p, c, command)
			seen[command[0]] = true
		}
	}
}

// checkSettings loads the settings of a container that runs the command.
func checkSettings(t *testing.T, p pod, c object, command []string) {
	t.Helper()
	what := fmt.Sprintf("%s: %v", p, command)
	environ := p.environ(t, c)
	switch command[0] {
	case "proxy":
		flags := flagSet(t, config.ProxySettings(), command[1:])
		loaded, err := config.LoadProxy(settings.Input{Flags: flags, Environ: environ, ReadFile: p.readFile(c)})
		require.NoError(t, err, what)
		require.Empty(t, loaded.Warnings, what)
		require.True(t, loaded.Policy != nil || len(loaded.Tenants) > 0, what)
		checkEnd(t, p, what, loaded.ShutdownDelay, loaded.DrainTimeout)
		checkVariables(t, what, environ, append(config.ProxySettings(), memoryLimit))
	case "tcp":
		flags := flagSet(t, config.TCPSettings(), command[1:])
		loaded, err := config.LoadTCP(settings.Input{Flags: flags, Environ: environ, ReadFile: p.readFile(c)})
		require.NoError(t, err, what)
		checkEnd(t, p, what, loaded.ShutdownDelay, loaded.DrainTimeout)
		checkVariables(t, what, environ, append(config.TCPSettings(), append(communityVariables, memoryLimit)...))
	case "/sluice-netsetup":
		if len(command) > 1 {
			checkNetsetupHold(t, what, environ, command[1:])
			return
		}
		checkNetsetup(t, what, environ)
	case "/sluice-kube":
		checkKube(t, what, environ, command[1:])
	case "sleep": // the client
	default:
		t.Errorf("%s: what is this?", what)
	}
}

// checkEnd: a pod of the manifests takes clients until Services know that it ends, and
// the kubelet waits for that and for those that are served. Pages that show the least of
// a pod say nothing of it.
func checkEnd(t *testing.T, p pod, what string, delay, drain time.Duration) {
	t.Helper()
	if strings.HasPrefix(p.set, "docs/") {
		return
	}
	want := map[bool]time.Duration{false: 5 * time.Second}[p.holds()]
	require.Equal(t, want, delay, what)
	require.Greater(t, p.grace(t), delay+drain+5*time.Second, what)
}

// grace is how long the kubelet waits for the pod's end.
func (p pod) grace(t *testing.T) time.Duration {
	t.Helper()
	seconds, err := strconv.Atoi(fmt.Sprint(p.spec.at("terminationGracePeriodSeconds")))
	require.NoError(t, err, p)
	return time.Duration(seconds) * time.Second
}

// memoryLimit is read by Go itself.
var memoryLimit = settings.Setting{Env: "GOMEMLIMIT"}

// communityVariables are those of the community haproxy image, and the debug switch
// of the original's, which are no settings of their own.
var communityVariables = []settings.Setting{
	{Env: "SERVICE_NAME"}, {Env: "SERVICE_TCP_PORT"}, {Env: "SERVICE_DEST"}, {Env: "SERVICE_DEST_PORT"},
	{Env: "EGRESS_DNS_PROXY_DEBUG"},
}

func flagSet(t *testing.T, all []settings.Setting, args []string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings.AddFlags(flags, all)
	require.NoError(t, flags.Parse(args))
	return flags
}

func checkVariables(t *testing.T, what string, environ []string, all []settings.Setting) {
	t.Helper()
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		assert.True(t, slices.ContainsFunc(all, func(s settings.Setting) bool {
			return name == s.Env || name == s.Egress
		}), "%s: nobody reads %s", what, name)
	}
}

// checkNetsetup parses what sluice-netsetup is told.
func checkNetsetup(t *testing.T, what string, environ []string) {
	t.Helper()
	told := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		told[name] = value
	}
	mode, err := netsetup.ParseMode(told["EGRESS_ROUTER_MODE"])
	require.NoError(t, err, what)
	sources, problems := netsetup.ParseSources(told["EGRESS_SOURCE"])
	require.Empty(t, problems, what)
	require.Empty(t, netsetup.ParseGateways(told["EGRESS_GATEWAY"], sources), what)
	c := netsetup.Config{Mode: mode, Sources: sources}
	if mode.Redirects() {
		c.Destinations, problems = netsetup.ParseDestinations(told["EGRESS_DESTINATION"])
		require.Empty(t, problems, what)
		require.NotEmpty(t, c.Destinations, what)
	}
	require.Empty(t, c.Check(), what)
	for _, name := range []string{"EGRESS_ROUTER_MODE", "EGRESS_SOURCE", "EGRESS_GATEWAY", "EGRESS_DESTINATION"} {
		delete(told, name)
	}
	require.Empty(t, told, "%s: nobody reads these", what)
}

// TestOneAddressOnePod: whoever has a source address of its own is alone with it, or has it by
// turns with others.
func TestOneAddressOnePod(t *testing.T) {
	for _, p := range pods(t) {
		if p.owner.kind() != "Deployment" || p.holds() {
			continue // checkHolding
		}
		environ := strings.Join(p.environ(t, p.spec.list("containers")[0]), "\n")
		if strings.Contains(environ, "EGRESS_SOURCE=") {
			assert.Equal(t, 1, p.owner.at("spec", "replicas"), p)
			assert.Equal(t, "Recreate", p.owner.text("spec", "strategy", "type"), p)
		} else {
			assert.Equal(t, "RollingUpdate", p.owner.text("spec", "strategy", "type"), "%s: no address to fight for", p)
		}
	}
}

// TestNetworks: what Multus is asked for exists, is JSON, and has the addresses
// that the pod has been told.
func TestNetworks(t *testing.T) {
	found := 0
	for _, p := range pods(t) {
		annotation := p.owner.text("spec", "template", "metadata", "annotations", "k8s.v1.cni.cncf.io/networks")
		if annotation == "" {
			continue
		}
		found++
		name := annotation
		var list []struct{ Name, Interface string }
		if json.Unmarshal([]byte(annotation), &list) == nil {
			name = list[0].Name
			require.Equal(t, netsetup.DefaultInterface, list[0].Interface, p)
		}
		network := p.all.find("NetworkAttachmentDefinition", name, p.namespace)
		require.NotNil(t, network, "%s: network %s", p, name)
		var c struct {
			CNIVersion, Name, Type, Master, Mode, InterfaceType string
			InterfaceArgs                                       map[string]string
			IPAM                                                map[string]string
			IP                                                  struct {
				Addresses []string
				Gateway   string
			}
		}
		dec := json.NewDecoder(strings.NewReader(network.text("spec", "config")))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&c), p)
		require.Equal(t, network.name(), c.Name, p)
		switch c.Type {
		case "macvlan":
			require.NotEmpty(t, c.Master, p)
			require.Len(t, p.spec.list("initContainers"), map[bool]int{true: 2, false: 1}[p.holds()], p)
		case "egress-router":
			require.Contains(t, p.environ(t, p.spec.list("containers")[0]), "EGRESS_SOURCE="+c.IP.Addresses[0], p)
			require.NotEmpty(t, c.IP.Gateway, p)
			require.Empty(t, p.spec.list("initContainers"), p)
		default:
			t.Errorf("%s: network of type %q", p, c.Type)
		}
	}
	require.Equal(t, 5, found)
}

// TestConstraintsNameTheAccount: the one user of every SCC is the gateway's account, and
// every gateway beside it asks for that SCC.
func TestConstraintsNameTheAccount(t *testing.T) {
	constraints, gateways := 0, 0
	for _, s := range rendered(t) {
		for _, scc := range s.kinds("SecurityContextConstraints") {
			require.Equal(t, []string{"system:serviceaccount:egress:sluice", "system:serviceaccount:egress:sluice-redirect", "system:serviceaccount:egress:sluice-tcp"}, texts(scc, "users"))
			for _, overlay := range []string{"", "-redirect", "-tcp"} {
				below := set{objects: build(t, "kustomize/overlays/"+strings.TrimPrefix(cmp.Or(overlay, "-openshift-sdn"), "-"))}
				require.NotNil(t, below.find("ServiceAccount", "sluice"+overlay, "egress"))
				require.Equal(t, scc.name(), below.kinds("Deployment")[0].text("spec", "template", "metadata", "annotations", "openshift.io/required-scc"))
			}
			constraints++
			for _, p := range s.kinds("Deployment") {
				require.Equal(t, scc.name(), p.text("spec", "template", "metadata", "annotations", "openshift.io/required-scc"))
				gateways++
			}
		}
	}
	require.NotZero(t, constraints)
	require.NotZero(t, gateways)
}

// TestImageIsNamedAsDocumented: what "kustomize edit set image" writes, as
// docs/deploy.md says it, names the image of every container: in each overlay itself,
// and in a kustomization upon it.
func TestImageIsNamedAsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/deploy.md")
	require.NoError(t, err)
	require.Contains(t, string(text), "kustomize edit set image\nsluice=REGISTRY/sluice:VERSION")
	const images = "\nimages:\n- name: sluice\n  newName: registry.test/sluice\n  newTag: v1\n"
	overlays, err := filepath.Glob("kustomize/overlays/*")
	require.NoError(t, err)
	require.NotEmpty(t, overlays)
	for _, overlay := range overlays {
		for name, upon := range map[string]bool{"in it": false, "upon it": true} {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(filepath.Join(dir, "kustomize"), os.DirFS("kustomize")))
			at := filepath.Join(dir, overlay)
			if upon {
				at = filepath.Join(dir, "own")
				require.NoError(t, os.Mkdir(at, 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(at, "kustomization.yaml"), []byte("resources:\n- ../"+overlay+images), 0o600))
			} else {
				file := filepath.Join(at, "kustomization.yaml")
				before, err := os.ReadFile(file)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(file, append(before, images...), 0o600))
			}
			n := 0
			for _, p := range podsOf(set{objects: build(t, at)}) {
				for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
					n++
					assert.Equal(t, "registry.test/sluice:v1", c.text("image"), "%s, %s", overlay, name)
				}
			}
			assert.Positive(t, n)
		}
	}
}
