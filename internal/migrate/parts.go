package migrate

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/settings"
)

// parts makes the parts of a gateway's pod.
type parts struct {
	m       *migration
	g       *gateway
	checked checked
	objects []*yaml.Node // that the pod needs
	volumes []*yaml.Node
	sysctls *yaml.Node
}

// setup is the container that sets the network up, in its mode.
func (p *parts) setup(mode string) *yaml.Node {
	r := p.g.setup
	command := list("/sluice-netsetup")
	env := []any{object("name", "EGRESS_ROUTER_MODE", "value", mode)}
	var mounts *yaml.Node
	var unknown []variable
	for _, v := range p.take(r) {
		switch {
		case v.name == "EGRESS_ROUTER_MODE":
		case v.name == "EGRESS_DESTINATION" && p.g.mode != redirect:
		case v.name == "EGRESS_DESTINATION":
			if mounts = p.mount(v, destinationsFile, v.value); mounts == nil {
				env = append(env, v.entries()...)
				continue
			}
			command = list("/sluice-netsetup", "--destinations", folder+"/"+destinationsFile)
		case slices.Contains([]string{"EGRESS_SOURCE", "EGRESS_GATEWAY"}, v.name), slices.Contains(setupVariables, v.name),
			strings.HasPrefix(v.name, "SLUICE_"):
			env = append(env, v.entries()...)
		default:
			unknown = append(unknown, v)
		}
	}
	p.dropped(unknown, env)
	return object("name", "netsetup", "image", p.m.Image, "imagePullPolicy", p.keep(r, "imagePullPolicy"), "command", flow(command),
		"env", once(env),
		"securityContext", object("runAsUser", 0, "runAsNonRoot", false, "allowPrivilegeEscalation", false, "readOnlyRootFilesystem", true,
			"capabilities", object("drop", flow(list("ALL")), "add", flow(list("NET_ADMIN", "NET_RAW"))), "seccompProfile", object("type", "RuntimeDefault")),
		"resources", p.resources(r, "10m", "16Mi", "64Mi"), "volumeMounts", mounts)
}

// http is the container of the proxy.
func (p *parts) http() *yaml.Node {
	args := []any{"proxy"}
	var env []any
	var mounts *yaml.Node
	var unknown []variable
	for _, v := range p.take(p.g.proxy) {
		switch {
		case v.name == "EGRESS_SOURCE" && p.g.setup != nil:
		case v.name == "EGRESS_HTTP_PROXY_DESTINATION":
			if mounts = p.mount(v, rulesFile, v.value); mounts == nil {
				env = append(env, v.entries()...)
				continue
			}
			args = append(args, "--rules", folder+"/"+rulesFile)
		case v.name == "EGRESS_SOURCE", strings.HasPrefix(v.name, "SLUICE_"):
			env = append(env, v.entries()...)
		default:
			unknown = append(unknown, v)
		}
	}
	p.dropped(unknown, env)
	return p.proxy("sluice", args, env, mounts, []port{{"http-proxy", 8080}}, "128Mi", "512Mi")
}

// tcp is the container of the relay.
func (p *parts) tcp() *yaml.Node {
	args := []any{"tcp"}
	var env []any
	var mounts *yaml.Node
	var unknown []variable
	for _, v := range p.take(p.g.proxy) {
		switch {
		case v.name == "EGRESS_SOURCE" && p.g.setup != nil:
		case v.name == "EGRESS_DNS_PROXY_DESTINATION" && v.from == nil && v.known:
			conf, err := write([]*yaml.Node{object("destinations", v.value)})
			if err != nil {
				p.m.note(p.g.d, v.node, Breaks, "%v", err)
				continue
			}
			mounts = p.mount(v, configFile, conf)
			args = append(args, "--config", folder+"/"+configFile)
		case slices.Contains([]string{"EGRESS_DNS_PROXY_DESTINATION", "EGRESS_DNS_PROXY_DEBUG", "SERVICE_NAME", "SERVICE_TCP_PORT", "SERVICE_DEST", "SERVICE_DEST_PORT", "EGRESS_SOURCE"}, v.name),
			strings.HasPrefix(v.name, "SLUICE_"):
			env = append(env, v.entries()...)
		default:
			unknown = append(unknown, v)
		}
	}
	p.dropped(unknown, env)
	var ports []port
	low := p.checked.ports == nil
	for _, n := range p.checked.ports {
		ports = append(ports, port{"tcp-" + strconv.Itoa(n), n})
		low = low || n < 1024
	}
	if low {
		p.sysctls = list(object("name", "net.ipv4.ip_unprivileged_port_start", "value", quoted("0")))
		p.m.note(p.g.d, p.g.proxy.container, Differs, "ports below 1024 for a program without privilege: the sysctl net.ipv4.ip_unprivileged_port_start (Kubernetes calls it safe; 1.22 and on)")
	}
	return p.proxy("tcp", args, env, mounts, ports, "64Mi", "256Mi")
}

type port struct {
	name   string
	number int
}

// proxy is a container that faces clients.
func (p *parts) proxy(name string, args, env []any, mounts *yaml.Node, ports []port, request, limit string) *yaml.Node {
	r := p.g.proxy
	if p.g.setup != nil {
		if v := lookup(p.g.setup.env, "EGRESS_SOURCE"); v != nil {
			env = append(v.entries(), env...)
		}
	}
	env = append(env, object("name", "SLUICE_SHUTDOWN_DELAY", "value", "5s"))
	container := p.ports(append(ports, port{"admin", 9090}))
	probe := func(path string, more ...any) *yaml.Node {
		return object(append([]any{"httpGet", object("path", path, "port", "admin")}, more...)...)
	}
	return object("name", name, "image", p.m.Image, "imagePullPolicy", p.keep(r, "imagePullPolicy"), "args", flow(list(args...)),
		"env", once(env), "ports", container,
		"readinessProbe", probe("/readyz", "periodSeconds", 5),
		"livenessProbe", probe("/healthz", "periodSeconds", 10, "failureThreshold", 6),
		"securityContext", object("runAsNonRoot", true, "allowPrivilegeEscalation", false, "readOnlyRootFilesystem", true,
			"capabilities", object("drop", flow(list("ALL"))), "seccompProfile", object("type", "RuntimeDefault")),
		"resources", p.resources(r, "100m", request, limit), "volumeMounts", mounts)
}

// ports are those of the container. One that the old container had keeps its name, since a
// Service may lead to it by that.
func (p *parts) ports(ours []port) *yaml.Node {
	d, all := p.g.d, &yaml.Node{Kind: yaml.SequenceNode}
	names := map[int]string{}
	for _, n := range items(at(p.g.proxy.container, "ports")) {
		if proto := scalar(at(n, "protocol")); proto != "" && proto != "TCP" || at(n, "hostPort") != nil {
			continue // noted as not taken over
		}
		number, _ := strconv.Atoi(scalar(at(n, "containerPort")))
		if name := scalar(at(n, "name")); name != "" {
			names[number] = name
		} else if !slices.ContainsFunc(ours, func(o port) bool { return o.number == number }) {
			continue
		}
		d.mark(n)
	}
	for _, o := range ours {
		if name := names[o.number]; name != "" {
			o.name = name
			delete(names, o.number)
		}
		all.Content = append(all.Content, object("name", o.name, "containerPort", o.number))
	}
	for _, number := range slices.Sorted(maps.Keys(names)) {
		all.Content = append(all.Content, object("name", names[number], "containerPort", number))
	}
	return all
}

// take marks what is understood of a role's container, and returns the variables that count.
func (p *parts) take(r *role) (all []variable) {
	d := p.g.d
	d.text(r.container, "name")
	d.text(r.container, "image")
	for _, key := range []string{"command", "args"} {
		if n := at(r.container, key); n != nil {
			d.mark(n)
			p.m.note(d, n, Breaks, "%s: the container %s runs something of its own, which is not in Sluice's image; take it out if it says what the image does anyway", key, scalar(at(r.container, "name")))
		}
	}
	for i, v := range r.env {
		d.text(v.node, "name")
		d.text(v.node, "value")
		d.take(v.node, "valueFrom")
		if lookup(r.env, v.name) == &r.env[i] {
			all = append(all, v)
		}
	}
	return all
}

// dropped notes the variables that say nothing here, but for those that others name.
func (p *parts) dropped(unknown []variable, env []any) {
	for _, v := range unknown {
		if slices.ContainsFunc(env, func(e any) bool { return e == v.entry }) {
			continue
		}
		why := "Sluice does not know it"
		for _, u := range unused {
			if u.name == v.name {
				why = u.instead
			}
		}
		if slices.Contains(settings.Variables(), v.name) {
			why = "it says nothing in this mode"
		}
		p.m.note(p.g.d, v.node, Dropped, "%s: %s", v.name, why)
	}
}

// once is the list of the entries, each once.
func once(env []any) *yaml.Node {
	l := &yaml.Node{Kind: yaml.SequenceNode}
	for _, e := range env {
		if n := node(e); !slices.ContainsFunc(l.Content, func(o *yaml.Node) bool { return scalar(at(o, "name")) == scalar(at(n, "name")) }) {
			l.Content = append(l.Content, n)
		}
	}
	return l
}

func (p *parts) keep(r *role, key string) *yaml.Node { return p.g.d.take(r.container, key) }

func (p *parts) resources(r *role, cpu, request, limit string) *yaml.Node {
	if own := p.keep(r, "resources"); own != nil && len(own.Content) > 0 {
		return own
	}
	return object("requests", object("cpu", cpu, "memory", request), "limits", object("memory", limit))
}

// mount makes a text a file of the container: in a ConfigMap that is made for it, or in the
// one that has it. The result is nil where it can only stay a variable.
func (p *parts) mount(v variable, file, content string) *yaml.Node {
	name, key := short(p.g.name+"-sluice", mostName), file
	switch {
	case v.keyed != "" && !p.m.Values:
		name, key, _ = strings.Cut(v.keyed, "/")
		p.m.note(p.g.d, v.node, Differs, "%s is a file of the ConfigMap %s now, and a change of it is put in force without a new pod", v.name, name)
	case p.m.Values: // it is a value
	case v.from != nil || !v.known:
		p.m.note(p.g.d, v.node, Differs, "%s stays a variable, since where it comes from is no ConfigMap: a change needs a new pod", v.name)
		return nil
	default:
		p.m.note(p.g.d, v.node, Differs, "%s is in the ConfigMap %s now, and a change of it is put in force without a new pod", v.name, name)
		p.objects = append(p.objects, object("apiVersion", "v1", "kind", "ConfigMap",
			"metadata", p.m.metadata(p.g.d, name, "labels", p.g.labels()), "data", object(file, content)))
	}
	p.volumes = append(p.volumes, object("name", "sluice-config",
		"configMap", object("name", name, "items", list(object("key", key, "path", file)))))
	return list(object("name", "sluice-config", "mountPath", folder, "readOnly", true))
}
