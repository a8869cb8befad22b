package migrate

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// variable is one of a container's environment.
type variable struct {
	name  string
	node  *yaml.Node // the entry, {name, value} or {name, valueFrom}; of envFrom one that was made
	entry *yaml.Node // the entry as it is written
	from  *yaml.Node // valueFrom
	value string
	known bool   // value is what the container gets
	keyed string // the ConfigMap and key that it is from, "NAME/KEY"; "" for none

	refers  string      // a variable that it names, $(NAME), and that is not known; "" for none
	needs   []*variable // all that its value names, when refers is not ""
	service bool        // refers is one that a Service gives
}

// environment reads the variables of a container. Of a name that stands twice the last counts.
// Nothing is marked yet.
func (m *migration) environment(d *document, container *yaml.Node) (all []variable) {
	for _, e := range items(at(container, "envFrom")) {
		all = append(all, m.envFrom(d, e)...)
	}
	for _, e := range items(at(container, "env")) {
		v := variable{name: scalar(at(e, "name")), node: e, from: at(e, "valueFrom"), value: scalar(at(e, "value"))}
		v.entry = object("name", v.name, "value", v.value)
		if v.known = v.from == nil; v.known && strings.Contains(v.value, "$") {
			v.expand(all)
		}
		if v.from != nil {
			v.entry = object("name", v.name, "valueFrom", v.from)
		}
		if ref := at(v.from, "configMapKeyRef"); ref != nil {
			name, key := scalar(at(ref, "name")), scalar(at(ref, "key"))
			v.keyed = name + "/" + key
			v.value, v.known = m.configMap(d, name, key)
		}
		all = append(all, v)
	}
	return all
}

// mostText is what an API server takes of a pod or a ConfigMap, about; variables that name each
// other can make more of less.
const mostText = 1 << 20

// dollar is what the kubelet puts another variable in the place of. Two dollars are one, and
// what they stand before is no reference.
var dollar = regexp.MustCompile(`\$\$|\$\(([^)]*)\)`)

// expand puts the variables before it into its value, as the kubelet does. One that is not known
// leaves it as it is, unknown itself, and in need of that variable.
func (v *variable) expand(before []variable) {
	var needs []*variable
	size := 0
	value := dollar.ReplaceAllStringFunc(v.value, func(s string) string {
		if s == "$$" {
			return "$"
		}
		name := s[2 : len(s)-1]
		other := lookup(before, name)
		if other != nil && !slices.Contains(needs, other) {
			needs = append(needs, other)
		}
		switch {
		case other != nil && other.known && size+len(other.value) <= mostText:
			size += len(other.value)
			return other.value
		case other != nil:
			v.refers = name
		case strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") || strings.HasPrefix(name, "KUBERNETES_"):
			v.refers, v.service = name, true
		}
		return s // the kubelet leaves alone what nobody has set
	})
	if v.refers != "" {
		v.needs, v.known = needs, false
		return
	}
	if value == v.value {
		return
	}
	v.value = value
	if dollar.MatchString(value) {
		value = strings.ReplaceAll(value, "$", "$$") // it is expanded once more
	}
	v.entry = object("name", v.name, "value", value)
}

// entries are the variable's own entry, after those that its value names.
func (v *variable) entries() (all []any) {
	v.gather(map[*yaml.Node]bool{}, &all)
	return all
}

func (v *variable) gather(known map[*yaml.Node]bool, all *[]any) {
	if known[v.entry] {
		return
	}
	known[v.entry] = true
	for _, n := range v.needs {
		n.gather(known, all)
	}
	*all = append(*all, v.entry)
}

// envFrom are the variables of a whole ConfigMap.
func (m *migration) envFrom(d *document, e *yaml.Node) (all []variable) {
	name, prefix := scalar(at(e, "configMapRef", "name")), scalar(at(e, "prefix"))
	if name == "" {
		return nil // of a Secret: it is noted as not taken over
	}
	c := m.find("ConfigMap", name, d)
	if c == nil && scalar(at(e, "configMapRef", "optional")) != "true" {
		m.absent[d] = append(m.absent[d], noteOf(d, e, Breaks, "envFrom takes the variables of the ConfigMap %s, which is not among the files: give it too (oc get configmap %[1]s -o yaml)", name))
		d.mark(e)
	}
	if c == nil {
		return nil
	}
	d.mark(e)
	for _, key := range keys(at(c.root, "data")) {
		n := object("name", prefix+key, "valueFrom", object("configMapKeyRef", object("name", name, "key", key)))
		all = append(all, variable{name: prefix + key, node: n, entry: n, from: at(n, "valueFrom"), value: scalar(at(c.root, "data", key)), known: true, keyed: name + "/" + key})
	}
	return all
}

// configMap is what a ConfigMap among the files has.
func (m *migration) configMap(d *document, name, key string) (string, bool) {
	c := m.find("ConfigMap", name, d)
	if c == nil {
		return "", false
	}
	n := at(c.root, "data", key)
	return scalar(n), n != nil
}

// find is the object among the files that d means by the name.
func (m *migration) find(kind, name string, d *document) *document {
	i := slices.IndexFunc(m.docs, func(o *document) bool {
		return o.kind() == kind && o.name() == name && m.namespaceOf(o) == m.namespaceOf(d)
	})
	if i < 0 {
		return nil
	}
	return m.docs[i]
}

func (m *migration) namespaceOf(d *document) string {
	if ns := d.namespace(); ns != "" {
		return ns
	}
	return m.Namespace
}

// lookup is the variable that counts of that name.
func lookup(env []variable, name string) *variable {
	for i := len(env) - 1; i >= 0; i-- {
		if env[i].name == name {
			return &env[i]
		}
	}
	return nil
}

// has reports whether a variable is there with something in it, or with what is not known.
func has(env []variable, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		v := lookup(env, name)
		return v != nil && (!v.known || v.value != "")
	})
}
