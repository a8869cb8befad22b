package migrate

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// kept are the fields of a pod that hold for whatever runs in it.
var kept = []string{"nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priorityClassName", "schedulerName", "runtimeClassName",
	"imagePullSecrets", "dnsPolicy", "dnsConfig", "hostAliases", "hostname", "subdomain", "preemptionPolicy", "overhead"}

// pod is the specification of the pod.
func (p *parts) pod(inits, mains []*yaml.Node) *yaml.Node {
	d, old := p.g.d, at(p.g.template, "spec")
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if d.text(old, key) == "true" {
			p.m.note(d, at(old, key), Breaks, "%s: the pod would set up the node's network; it needs one of its own", key)
		}
	}
	grace := 45
	if p.g.mode == redirect {
		grace = 30
	}
	if n, err := strconv.Atoi(d.text(old, "terminationGracePeriodSeconds")); err == nil && n > grace {
		grace = n
	}
	spec := object("serviceAccountName", d.take(old, "serviceAccountName"), "automountServiceAccountToken", false, "enableServiceLinks", false,
		"terminationGracePeriodSeconds", grace)
	d.text(old, "serviceAccount")
	d.text(old, "restartPolicy")
	for _, key := range kept {
		if n := d.take(old, key); n != nil {
			spec.Content = append(spec.Content, text(key), n)
		}
	}
	rest := object("securityContext", object("sysctls", p.sysctls), "initContainers", list(nodes(inits)...), "containers", list(nodes(mains)...),
		"volumes", list(nodes(p.carriedVolumes(), p.volumes)...))
	spec.Content = append(spec.Content, rest.Content...)
	return spec
}

// carriedVolumes are those that containers mount which are passed on.
func (p *parts) carriedVolumes() (all []*yaml.Node) {
	mounted := map[string]bool{}
	for _, c := range p.g.carried {
		for _, m := range items(at(c, "volumeMounts")) {
			mounted[scalar(at(m, "name"))] = true
		}
	}
	for _, v := range items(at(p.g.template, "spec", "volumes")) {
		if mounted[scalar(at(v, "name"))] {
			all = append(all, p.g.d.take(v))
		}
	}
	return all
}

func nodes(lists ...[]*yaml.Node) (all []any) {
	for _, l := range lists {
		for _, n := range l {
			all = append(all, n)
		}
	}
	return all
}

// quoted is a number that Kubernetes wants as a string.
func quoted(s string) *yaml.Node {
	n := text(s)
	n.Style = yaml.DoubleQuotedStyle
	return n
}
