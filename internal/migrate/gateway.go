package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mode is what a gateway does.
type mode uint8

const (
	httpProxy mode = iota // squid's
	tcpProxy              // haproxy's
	redirect              // the kernel's
)

// gateway is an egress router as it was.
type gateway struct {
	d        *document
	template *yaml.Node // of its pod, with metadata and spec
	name     string
	mode     mode

	setup   *role // sets the network up; nil: nothing does
	proxy   *role // nil in redirect mode
	carried []*yaml.Node
	macvlan string // the annotation of openshift-sdn
	many    int    // replicas
	multus  string // the annotation of Multus
}

// role is a container that did a part of the work.
type role struct {
	container *yaml.Node
	env       []variable
}

const (
	macvlanAnnotation = "pod.network.openshift.io/assign-macvlan"
	multusAnnotation  = "k8s.v1.cni.cncf.io/networks"
)

// gateway reads a pod; nil when it is no egress router.
func (m *migration) gateway(d *document, template *yaml.Node) *gateway {
	g := &gateway{d: d, template: template, name: d.name()}
	if g.name == "" {
		g.name = generated(d.root)
	}
	pod := at(template, "spec")
	inits, mains := items(at(pod, "initContainers")), items(at(pod, "containers"))
	for _, c := range slices.Concat(inits, mains) {
		r := &role{c, m.environment(d, c)}
		switch {
		case has(r.env, "EGRESS_HTTP_PROXY_DESTINATION", "EGRESS_DNS_PROXY_DESTINATION", "SERVICE_DEST", "CONFIG_FILE") && !has(r.env, "EGRESS_ROUTER_MODE"):
			m.be(g, &g.proxy, r)
		case has(r.env, "EGRESS_ROUTER_MODE", "EGRESS_DESTINATION") || has(r.env, "EGRESS_GATEWAY") && has(r.env, "EGRESS_SOURCE"):
			m.be(g, &g.setup, r)
		case waits(c):
			// sluice-netsetup waits itself
		default:
			g.carried = append(g.carried, c)
		}
	}
	if g.setup == nil && g.proxy == nil {
		return nil
	}
	if g.proxy != nil && !has(g.proxy.env, "EGRESS_HTTP_PROXY_DESTINATION", "EGRESS_DNS_PROXY_DESTINATION", "SERVICE_DEST") && lookup(g.proxy.env, "SERVICE_NAME") == nil {
		return nil // CONFIG_FILE is a name that others have as well
	}
	d.done = true
	if m.owned(d) {
		return nil
	}
	m.notes = append(m.notes, m.absent[d]...)
	for _, c := range slices.Concat(inits, mains) {
		if waits(c) {
			d.mark(c)
			m.note(d, c, Differs, "the container %s only waited and is left out: sluice-netsetup waits itself, and keeps the rules' counters", scalar(at(c, "name")))
		}
	}
	m.annotations(g)
	m.choose(g)
	return g
}

// be gives a container its role.
func (m *migration) be(g *gateway, place **role, r *role) {
	if *place != nil {
		m.note(g.d, r.container, Breaks, "the containers %s and %s do the same work; give each a pod of its own",
			scalar(at((*place).container, "name")), scalar(at(r.container, "name")))
		g.d.mark(r.container)
		return
	}
	*place = r
}

// waits reports whether a container does nothing, as redirect mode's second one.
func waits(c *yaml.Node) bool {
	image := scalar(at(c, "image"))
	image, _, _ = strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	image, _, _ = strings.Cut(image, "@")
	return len(items(at(c, "env"))) == 0 && at(c, "command") == nil &&
		(slices.Contains([]string{"origin-pod", "ose-pod", "ose-pod-rhel9", "pause"}, image) || scalar(at(c, "name")) == "egress-router-wait")
}

// annotations are those that say where the interface comes from.
func (m *migration) annotations(g *gateway) {
	for _, meta := range []*yaml.Node{at(g.d.root, "metadata"), at(g.template, "metadata")} {
		if a := g.d.text(meta, "annotations", macvlanAnnotation); a != "" {
			g.macvlan = a
		}
		if a := g.d.text(meta, "annotations", multusAnnotation); a != "" {
			g.multus = a
		}
	}
	if g.setup != nil && g.macvlan == "" && g.multus == "" && lookup(g.setup.env, "EGRESS_MASTER") == nil {
		m.note(g.d, g.template, Breaks, "no interface: neither the annotation %s nor %s is there, and the pod has no way to the address of EGRESS_SOURCE", macvlanAnnotation, multusAnnotation)
	}
}

// choose finds out what the gateway does.
func (m *migration) choose(g *gateway) {
	asked := ""
	if g.setup != nil {
		v := lookup(g.setup.env, "EGRESS_ROUTER_MODE")
		if v != nil {
			asked = v.value
			if !v.known {
				m.note(g.d, v.node, Breaks, "EGRESS_ROUTER_MODE is not in the files; give the ConfigMap as well, or write the mode")
			}
		}
		for _, name := range []string{"EGRESS_SOURCE", "EGRESS_GATEWAY"} {
			if !has(g.setup.env, name) {
				m.note(g.d, g.setup.container, Breaks, "%s unspecified or invalid: it is not set", name)
			}
		}
	}
	switch {
	case g.proxy == nil:
		g.mode = redirect
		switch asked {
		case "", "init", "legacy":
			if !has(g.setup.env, "EGRESS_DESTINATION") {
				m.note(g.d, g.setup.container, Breaks, "EGRESS_DESTINATION unspecified: it is not set")
			}
		case "http-proxy", "dns-proxy":
			m.note(g.d, g.setup.container, Breaks, "EGRESS_ROUTER_MODE is %s, and no container has the proxy's variable", asked)
		default:
			m.note(g.d, g.setup.container, Breaks, "Unrecognized EGRESS_ROUTER_MODE '%s'", asked)
		}
		return
	case has(g.proxy.env, "EGRESS_HTTP_PROXY_DESTINATION"):
		g.mode = httpProxy
	default:
		g.mode = tcpProxy
	}
	want := map[mode]string{httpProxy: "http-proxy", tcpProxy: "dns-proxy"}[g.mode]
	switch {
	case g.setup == nil, asked == want, lookup(g.setup.env, "EGRESS_ROUTER_MODE") != nil && !lookup(g.setup.env, "EGRESS_ROUTER_MODE").known:
	case has(g.setup.env, "EGRESS_DESTINATION"):
		m.note(g.d, g.setup.container, Breaks, "redirect rules and a proxy in one pod: make two pods of it, each with its own address")
	default:
		m.note(g.d, g.setup.container, Differs, "EGRESS_ROUTER_MODE was '%s'; it is %s, as the proxy's variable asks", asked, want)
	}
}
