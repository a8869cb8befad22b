package migrate

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// values are those of the Helm chart that make the same gateway. What the chart has no value
// for is noted.
func (m *migration) values(g *gateway, c checked, workload *yaml.Node) *yaml.Node {
	spec := at(workload, "spec", "template", "spec")
	// No fullnameOverride: the old objects' names are theirs until they are gone, and the Service's
	// as long as it stays.
	v := object("image", m.Image, "mode", map[mode]string{httpProxy: "proxy", tcpProxy: "tcp", redirect: "redirect"}[g.mode], "network", m.networkValues(g))
	add := func(more *yaml.Node) { v.Content = append(v.Content, more.Content...) }
	add(m.workloadValues(g, spec))
	switch g.mode {
	case httpProxy:
		add(object("rules", m.literal(g, g.proxy, "EGRESS_HTTP_PROXY_DESTINATION")))
	case redirect:
		add(object("redirect", object("destinations", m.literal(g, g.setup, "EGRESS_DESTINATION"))))
	default:
		add(m.tcpValues(g, c))
	}
	add(m.containerValues(g))
	for _, key := range kept {
		n := at(spec, key)
		switch key {
		case "nodeSelector", "tolerations", "affinity", "imagePullSecrets":
			add(object(key, n))
		default:
			if n != nil && !isDefault(key, n) {
				m.note(g.d, n, Dropped, "%s: the chart has no value for it", key)
			}
		}
	}
	for _, n := range g.carried {
		m.note(g.d, n, Breaks, "the container %s: the chart has no place for it; migrate to manifests instead", scalar(at(n, "name")))
	}
	if own := scalar(at(g.template, "spec", "serviceAccountName")); own != "" {
		m.note(g.d, at(g.template, "spec", "serviceAccountName"), Dropped, "serviceAccountName: %s: the chart makes an account of its own", own)
	}
	return v
}

// workloadValues are of the workload and of its pods as a whole.
func (m *migration) workloadValues(g *gateway, spec *yaml.Node) *yaml.Node {
	labels := merged(at(g.template, "metadata", "labels"), nil)
	for _, key := range keys(g.labels()) {
		if without(labels, key) {
			m.note(g.d, at(g.template, "metadata", "labels"), Differs, "the label %s is the chart's own: a Service that selects by another value does not find the pods", key)
		}
	}
	v := object("podLabels", labels, "podAnnotations", podAnnotations(g))
	if g.many != 1 {
		v.Content = append(v.Content, object("replicas", g.many).Content...)
	}
	if n, _ := strconv.Atoi(scalar(at(spec, "terminationGracePeriodSeconds"))); n > 45 {
		v.Content = append(v.Content, object("terminationGracePeriodSeconds", n).Content...)
	}
	for _, key := range []string{"labels", "annotations"} {
		if own := at(g.d.root, "metadata", key); own != nil && len(own.Content) > 0 && g.d.kind() != "Pod" {
			m.note(g.d, own, Dropped, "metadata.%s: the chart has no value for those of the workload", key)
		}
	}
	return v
}

// containerValues are of the container that the chart has values for: the proxy's, or in redirect
// mode that of sluice-netsetup.
func (m *migration) containerValues(g *gateway) *yaml.Node {
	main := g.proxy
	if main == nil {
		main = g.setup
	}
	var env []any
	if g.proxy != nil {
		for _, e := range g.proxy.env {
			if strings.HasPrefix(e.name, "SLUICE_") || e.name == "EGRESS_DNS_PROXY_DEBUG" {
				env = append(env, e.entries()...)
			}
		}
	}
	if g.setup != nil {
		for _, e := range g.setup.env {
			if slices.Contains(setupVariables, e.name) || strings.HasPrefix(e.name, "SLUICE_") {
				m.note(g.d, e.node, Dropped, "%s: the chart has no value for it", e.name)
			}
		}
		if own := at(g.setup.container, "resources"); own != nil && len(own.Content) > 0 {
			m.note(g.d, own, Dropped, "resources: the chart has no value for those of sluice-netsetup")
		}
	}
	v := object("imagePullPolicy", at(main.container, "imagePullPolicy"), "env", once(env))
	if g.proxy != nil {
		v.Content = append(v.Content, object("resources", at(g.proxy.container, "resources")).Content...)
	}
	return v
}

// setupVariables are those of sluice-netsetup, but for what other values say.
var setupVariables = []string{"EGRESS_INTERFACE", "EGRESS_MASTER", "EGRESS_ROUTER_DEBUG", "EGRESS_POOL"}

// podAnnotations are those of the pods that no other value says.
func podAnnotations(g *gateway) *yaml.Node {
	own := merged(at(g.template, "metadata", "annotations"), nil)
	for _, key := range []string{macvlanAnnotation, multusAnnotation} {
		without(own, key)
	}
	return own
}

// portsByName notes the Services that lead to a port by a name which the chart does not give it.
func (m *migration) portsByName(d *document) {
	for _, p := range items(at(d.root, "spec", "ports")) {
		to := at(p, "targetPort")
		if name := scalar(to); name != "" && to.Tag == "!!str" && name != "http-proxy" && !strings.HasPrefix(name, "tcp-") {
			if _, err := strconv.Atoi(name); err != nil {
				m.note(d, to, Breaks, "targetPort: %s: the chart calls its ports http-proxy and tcp-NUMBER; write the number", name)
			}
		}
	}
}

// networkValues say where the interface and the addresses come from.
func (m *migration) networkValues(g *gateway) *yaml.Node {
	if g.setup == nil {
		return object("type", "none")
	}
	kv := []any{"type", "openshift-sdn", "source", m.literal(g, g.setup, "EGRESS_SOURCE"), "gateway", m.literal(g, g.setup, "EGRESS_GATEWAY")}
	if g.macvlan != "" {
		return object(append(kv, "annotation", quoted(g.macvlan))...)
	}
	kv[1] = "multus"
	master := ""
	for _, o := range m.out {
		if scalar(at(o, "kind")) == "NetworkAttachmentDefinition" {
			master = masterOf(scalar(at(o, "spec", "config")))
		}
	}
	for _, o := range m.docs {
		if o.kind() == "NetworkAttachmentDefinition" && o.name() == strings.TrimSpace(g.multus) {
			master = masterOf(scalar(at(o.root, "spec", "config")))
		}
	}
	if master == "" {
		m.note(g.d, g.d.root, Breaks, "the node's interface is not in the files: give the NetworkAttachmentDefinition with it, or write network.master by hand")
	}
	return object(append(kv, "master", master)...)
}

// masterOf is the node's interface in the configuration of a CNI plugin.
func masterOf(conf string) string {
	var n yaml.Node
	if yaml.Unmarshal([]byte(conf), &n) != nil || len(n.Content) == 0 {
		return ""
	}
	return scalar(at(n.Content[0], "master"))
}

// literal is what a variable holds.
func (m *migration) literal(g *gateway, r *role, name string) string {
	v := lookup(r.env, name)
	if v == nil || !v.known {
		m.note(g.d, r.container, Breaks, "%s: values hold what it says, and where that comes from is not among the files", name)
		return ""
	}
	return v.value
}

// tcpValues are the destinations of the relay, a line each.
func (m *migration) tcpValues(g *gateway, c checked) *yaml.Node {
	if lookup(g.proxy.env, "EGRESS_DNS_PROXY_DESTINATION") != nil {
		return object("tcp", object("destinations", m.literal(g, g.proxy, "EGRESS_DNS_PROXY_DESTINATION")))
	}
	if c.listeners == nil {
		m.note(g.d, g.proxy.container, Breaks, "SERVICE_DEST: values hold what it says, and where that comes from is not among the files")
		return object()
	}
	lines := ""
	for _, l := range c.listeners {
		_, port, _ := net.SplitHostPort(l.Listen)
		if len(l.Destinations) > 1 {
			m.note(g.d, g.proxy.container, Breaks, "port %s has several destinations, and the chart's values one for each port; migrate to manifests instead", port)
			continue
		}
		for _, t := range l.Destinations {
			lines += fmt.Sprintf("%s %s %d\n", port, t.Host, t.Port)
		}
	}
	return object("tcp", object("destinations", lines))
}

// asValues puts the values of the one gateway into the place of all objects.
func (m *migration) asValues(all []*yaml.Node) {
	for _, d := range m.docs {
		if d.used[d.root] && d.kind() != "ConfigMap" && d.kind() != "Service" {
			m.note(d, nil, Dropped, "values hold a gateway alone; the object stays as it is")
		}
		if d.kind() == "Service" {
			m.portsByName(d)
			m.note(d, nil, Differs, "it stays as it is and finds the pods by their labels; the chart has a Service of its own beside it")
		}
	}
	if len(all) != 1 {
		m.notes = append(m.notes, Note{File: m.Files[0].Name, Object: "values", Level: Breaks,
			Msg: fmt.Sprintf("values are of one gateway, and there are %d: migrate each by itself", len(all))})
		return
	}
	m.out = all
}
