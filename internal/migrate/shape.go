package migrate

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// lists are what has to be a list of mappings in a pod and in its containers, where it is there.
var lists = map[bool][]string{
	false: {"initContainers", "containers", "volumes", "imagePullSecrets", "tolerations", "hostAliases"},
	true:  {"env", "envFrom", "ports", "volumeMounts"},
}

// shaped notes what has not the shape that it has to have for the API server, and would be passed
// over here: a mapping in the place of a list, a value of a variable that is no text.
func (m *migration) shaped(d *document, template *yaml.Node) bool {
	before := len(m.notes)
	pod := at(template, "spec")
	m.listed(d, pod, "spec", false)
	for _, group := range lists[false][:2] {
		for i, c := range items(at(pod, group)) {
			path := fmt.Sprintf("spec.%s[%d]", group, i)
			m.listed(d, c, path, true)
			for j, e := range items(at(c, "env")) {
				for _, key := range []string{"name", "value"} {
					if v := at(e, key); v != nil && v.Kind != yaml.ScalarNode {
						m.note(d, v, Breaks, "%s.env[%d].%s: a text is wanted", path, j, key)
					}
				}
			}
		}
	}
	return len(m.notes) == before
}

func (m *migration) listed(d *document, n *yaml.Node, path string, container bool) {
	for _, key := range lists[container] {
		v := at(n, key)
		if v == nil || v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
			continue
		}
		if v.Kind != yaml.SequenceNode {
			m.note(d, v, Breaks, "%s.%s: a list is wanted", path, key)
			continue
		}
		for i, item := range v.Content {
			if item.Kind != yaml.MappingNode {
				m.note(d, item, Breaks, "%s.%s[%d]: a mapping is wanted", path, key, i)
			}
		}
	}
}
