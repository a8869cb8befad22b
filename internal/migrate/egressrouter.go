package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	macvlanModes  = []string{"bridge", "private", "vepa", "passthru"}
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.:@-]{1,15}$`)
)

// egressRouter makes of an EgressRouter object, which the cluster network operator's CNI plugin
// serves, the pod that does the same. Its Deployment has the label by which the operator's
// Services find the old pods.
func (m *migration) egressRouter(d *document) {
	spec := at(d.root, "spec")
	if mode := d.text(spec, "mode"); mode != "" && mode != "Redirect" {
		m.note(d, at(spec, "mode"), Breaks, "the mode %s is none that the plugin has; Redirect is", mode)
	}
	var sources, gateways []string
	for _, a := range items(at(spec, "addresses")) {
		if ip := d.text(a, "ip"); ip != "" {
			sources = append(sources, ip)
		}
		if gw := d.text(a, "gateway"); gw != "" {
			gateways = append(gateways, gw)
		} else {
			m.note(d, a, Breaks, "the address has no gateway: EGRESS_GATEWAY unspecified or invalid")
		}
	}
	var lines []string
	if rules := at(spec, "redirect", "redirectRules"); rules != nil && len(rules.Content) == 0 {
		d.mark(rules)
	}
	for _, r := range items(at(spec, "redirect", "redirectRules")) {
		line := fmt.Sprintf("%s %s %s", d.text(r, "port"), strings.ToLower(d.text(r, "protocol")), d.text(r, "destinationIP"))
		if to := d.text(r, "targetPort"); to != "" {
			line += " " + to
		}
		lines = append(lines, line)
	}
	if ip := d.text(spec, "redirect", "fallbackIP"); ip != "" {
		lines = append(lines, ip)
	}
	mode := "bridge"
	if s := d.text(spec, "networkInterface", "macvlan", "mode"); s != "" {
		if mode = strings.ToLower(s); !slices.Contains(macvlanModes, mode) {
			m.note(d, at(spec, "networkInterface", "macvlan", "mode"), Breaks, "the mode %q is none of a macvlan; %s are", s, strings.Join(macvlanModes, ", "))
		}
	}
	master := d.text(spec, "networkInterface", "macvlan", "master")
	if master != "" && !interfaceName.MatchString(master) {
		m.note(d, at(spec, "networkInterface", "macvlan", "master"), Breaks, "%q is no name of an interface", master)
	}
	env := list(object("name", "EGRESS_ROUTER_MODE", "value", "legacy"), object("name", "EGRESS_SOURCE", "value", strings.Join(sources, ",")),
		object("name", "EGRESS_GATEWAY", "value", strings.Join(gateways, ",")),
		object("name", "EGRESS_DESTINATION", "value", strings.Join(lines, "\n")+"\n"))
	network := short(d.name()+"-egress", mostName)
	pod := object("metadata", object("labels", object("app", "egress-router-cni"),
		"annotations", object(multusAnnotation, `[{"name": "`+network+`", "interface": "macvlan0"}]`)),
		"spec", object("containers", list(object("name", "egress-router", "env", env))))
	m.out = append(m.out, object("apiVersion", "k8s.cni.cncf.io/v1", "kind", "NetworkAttachmentDefinition",
		"metadata", m.metadata(d, network), "spec", object("config", cniConfig(network, mode, master))))
	m.note(d, spec, Differs, "the plugin made the interface and redirected; Multus makes it now, by the NetworkAttachmentDefinition %s, and sluice-netsetup redirects. To filter, or to have names, take the overlay multus-egress-router-cni instead (docs/migrate.md)", network)
	m.note(d, spec, Differs, "the label app: egress-router-cni stays, by which Services find the pod; delete the EgressRouter first, or the new pod finds its address taken")
	g := &gateway{d: d, template: pod, name: d.name(), mode: redirect, multus: network}
	inside := &document{file: d.file, root: d.root, used: d.used}
	g.setup = &role{items(at(pod, "spec", "containers"))[0], m.environment(inside, items(at(pod, "spec", "containers"))[0])}
	m.render(g)
	m.leftovers(d)
}

// cniConfig is the configuration of a macvlan interface on the node's interface master, or on
// that of the node's default route when master is "".
func cniConfig(name, mode, master string) string {
	lines := []string{`"cniVersion": "0.3.1"`, `"name": "` + name + `"`, `"type": "macvlan"`}
	if master != "" {
		lines = append(lines, fmt.Sprintf(`"master": %q`, master))
	}
	lines = append(lines, fmt.Sprintf(`"mode": %q`, mode), `"ipam": {}`)
	return "{\n  " + strings.Join(lines, ",\n  ") + "\n}\n"
}
