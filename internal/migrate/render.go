package migrate

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Where the image's programs find what they are told.
const (
	folder           = "/etc/sluice"
	rulesFile        = "rules.txt"
	configFile       = "sluice.yaml"
	destinationsFile = "destinations.txt"
)

// render writes the objects that take the gateway's place.
func (m *migration) render(g *gateway) {
	d, pod := g.d, at(g.template, "spec")
	checked := m.check(g)
	p := &parts{m: m, g: g, checked: checked}
	var inits, mains []*yaml.Node
	switch g.mode {
	case redirect:
		mains = append(mains, p.setup("legacy"))
	case httpProxy:
		mains = append(mains, p.http())
	case tcpProxy:
		mains = append(mains, p.tcp())
	}
	if g.setup != nil && g.mode != redirect {
		inits = append(inits, p.setup(map[mode]string{httpProxy: "http-proxy", tcpProxy: "dns-proxy"}[g.mode]))
	}
	initial := items(at(pod, "initContainers"))
	for _, c := range g.carried {
		m.note(d, c, Differs, "the container %s is no part of the egress router and is passed on as it is", scalar(at(c, "name")))
		d.mark(c)
		if slices.Contains(initial, c) {
			inits = append(inits, c)
		} else {
			mains = append(mains, c)
		}
	}
	p.apart(inits, mains)
	spec := p.pod(inits, mains)
	m.account(g, spec)
	m.out = append(m.out, p.objects...)
	m.out = append(m.out, m.workload(g, spec))
	if m.Values {
		m.gathered = append(m.gathered, m.values(g, checked, m.out[len(m.out)-1]))
	}
	m.differences(g, checked)
}

// metadata is that of an object of the gateway.
func (m *migration) metadata(d *document, name string, more ...any) *yaml.Node {
	kv := []any{"name", name}
	if ns := m.namespaceOf(d); ns != "" {
		kv = append(kv, "namespace", ns)
	}
	return object(append(kv, more...)...)
}

// labels are Sluice's own, by which a Deployment knows its pods.
func (g *gateway) labels() *yaml.Node {
	return object("app.kubernetes.io/name", "sluice", "app.kubernetes.io/component", "gateway", "app.kubernetes.io/instance", short(g.name, mostLabel))
}

// workload is the Deployment. The pods keep their labels, so that Services find them.
func (m *migration) workload(g *gateway, spec *yaml.Node) *yaml.Node {
	d := g.d
	old := d.take(g.template, "metadata", "labels")
	labels := merged(old, g.labels())
	ours := &yaml.Node{Kind: yaml.MappingNode}
	for _, key := range keys(g.labels()) { // a label that the pod has already stays
		ours.Content = append(ours.Content, text(key), value(labels, key))
	}
	selector := object("matchLabels", ours)
	switch d.kind() {
	case "Deployment":
		// A selector cannot be changed: with its own, the object can be applied over the old one.
		// Before apps/v1 its labels were it, where it had none.
		if own := d.take(d.root, "spec", "selector"); own != nil {
			selector = own
		} else if old != nil && len(old.Content) > 0 {
			selector = object("matchLabels", merged(old, nil))
		}
		if m.Values {
			m.note(d, d.root, Differs, "the Deployment stays until you delete it: %s", g.before())
			break
		}
		m.note(d, d.root, Differs, "the Deployment keeps its name and selector: kubectl apply ends the old pod, then starts the new one, and kubectl rollout undo goes back. Before, kubectl apply set-last-applied --create-annotation has to say what was there, or the old containers can stay beside the new ones (docs/migrate.md)")
	case "Pod":
		m.note(d, d.root, Differs, "the Pod becomes a Deployment of the same name: delete the Pod %s", g.before())
	case "EgressRouter": // its own note says what to do
	default:
		d.take(d.root, "spec", "selector")
		m.note(d, d.root, Differs, "the %s becomes a Deployment of the same name: scale the old one to 0 %s", d.kind(), g.before())
	}
	g.many = 1
	strategy := object("type", "Recreate")
	asked := d.text(d.root, "spec", "replicas")
	if n, err := strconv.Atoi(asked); err == nil && (g.setup == nil || n == 0) {
		g.many = n
	}
	if g.setup == nil {
		strategy = nil
		if d.kind() == "Deployment" && !m.Values {
			strategy = d.take(d.root, "spec", "strategy")
		}
	} else {
		if asked != "" && asked != "0" && asked != "1" {
			m.note(d, at(d.root, "spec", "replicas"), Differs, "replicas: %s becomes 1: a source address is at one place at a time (for a spare that takes it over: docs/failover.md)", asked)
		}
		if t := d.text(d.root, "spec", "strategy", "type"); t != "Recreate" && d.kind() == "Deployment" {
			m.note(d, at(d.root, "spec"), Differs, "strategy: Recreate: a new pod waits for the old one's address, so the old one has to end first")
		}
	}
	annotations, own := g.annotations()
	return object("apiVersion", "apps/v1", "kind", "Deployment",
		"metadata", m.metadata(d, g.name, "labels", merged(d.take(d.root, "metadata", "labels"), g.labels()), "annotations", own),
		"spec", object("replicas", g.many, "strategy", strategy, "selector", selector,
			"template", object("metadata", object("labels", labels, "annotations", merged(annotations, m.constraint(g))), "spec", spec)))
}

// annotations are those of the pods, and of the workload itself.
func (g *gateway) annotations() (pods, own *yaml.Node) {
	pods, own = g.d.take(g.template, "metadata", "annotations"), g.d.take(g.d.root, "metadata", "annotations")
	if g.d.kind() == "Pod" {
		own = nil // they are the template's
	}
	without(own, "kubectl.kubernetes.io/last-applied-configuration")
	without(pods, "kubectl.kubernetes.io/last-applied-configuration")
	without(own, "deployment.kubernetes.io/revision")
	return pods, own
}

// before says when the old pod has to go.
func (g *gateway) before() string {
	if g.setup == nil {
		return "when the new one is ready"
	}
	return "first, or the new one finds its address taken"
}

// account is the ServiceAccount of the pod: its own, or one that is made for it.
func (m *migration) account(g *gateway, spec *yaml.Node) {
	if at(spec, "serviceAccountName") != nil {
		return
	}
	spec.Content = append([]*yaml.Node{text("serviceAccountName"), text(g.name)}, spec.Content...)
	m.out = append(m.out, object("apiVersion", "v1", "kind", "ServiceAccount",
		"metadata", m.metadata(g.d, g.name, "labels", g.labels()), "automountServiceAccountToken", false))
	if g.setup == nil || m.Values { // the chart says what its account needs
		return
	}
	ns := m.namespaceOf(g.d)
	if ns == "" {
		m.note(g.d, g.d.root, Differs, "on OpenShift the pod needs a SecurityContextConstraints for NET_ADMIN and NET_RAW; name the namespace (-n) to have it written, or apply deploy/openshift/scc.yaml for the ServiceAccount %s", g.name)
		return
	}
	if g.macvlan != "" || g.d.kind() == "DeploymentConfig" || g.d.kind() == "EgressRouter" {
		m.note(g.d, g.d.root, Differs, "an administrator applies the SecurityContextConstraints %s, which lets the ServiceAccount have NET_ADMIN and NET_RAW in the place of privileged", constraintName(ns, g.name))
		m.out = append(m.out, constraints(ns, g.name))
	} else {
		m.note(g.d, g.d.root, Differs, "the namespace has to let the init container have NET_ADMIN and NET_RAW: kubectl label namespace %s pod-security.kubernetes.io/enforce=privileged", ns)
	}
}

func constraintName(ns, name string) string { return short("sluice-netsetup-"+ns+"-"+name, mostName) }

// constraint is the annotation that names the constraints which [migration.account] writes.
func (m *migration) constraint(g *gateway) *yaml.Node {
	for _, o := range m.out {
		if scalar(at(o, "kind")) == "SecurityContextConstraints" && scalar(at(o, "metadata", "name")) == constraintName(m.namespaceOf(g.d), g.name) {
			return object("openshift.io/required-scc", scalar(at(o, "metadata", "name")))
		}
	}
	return nil
}

// constraints are those of deploy/openshift/scc.yaml, for one account.
func constraints(ns, name string) *yaml.Node {
	strategy := func(s string) *yaml.Node { return object("type", s) }
	o := object("apiVersion", "security.openshift.io/v1", "kind", "SecurityContextConstraints",
		"metadata", object("name", constraintName(ns, name), "labels", object("app.kubernetes.io/name", "sluice")))
	for _, key := range []string{"allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts", "allowPrivilegeEscalation", "allowPrivilegedContainer"} {
		o.Content = append(o.Content, text(key), truth(false))
	}
	rest := object("allowedCapabilities", flow(list("NET_ADMIN", "NET_RAW")), "readOnlyRootFilesystem", true,
		"runAsUser", strategy("RunAsAny"), "seLinuxContext", strategy("MustRunAs"), "fsGroup", strategy("MustRunAs"), "supplementalGroups", strategy("RunAsAny"),
		"seccompProfiles", flow(list("runtime/default")), "volumes", flow(list("configMap", "emptyDir", "projected", "secret")),
		"users", flow(list("system:serviceaccount:"+ns+":"+name)))
	o.Content = append(o.Content, rest.Content...)
	for _, key := range []string{"defaultAddCapabilities", "requiredDropCapabilities", "groups"} {
		o.Content = append(o.Content, text(key), flow(&yaml.Node{Kind: yaml.SequenceNode}))
	}
	return o
}
