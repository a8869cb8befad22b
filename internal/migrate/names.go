package migrate

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// What Kubernetes takes for names.
const (
	mostLabel = 63  // of a label's value, and of a namespace's name
	mostName  = 253 // of other names
)

var (
	namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	objectName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func isNamespace(s string) bool { return len(s) <= mostLabel && namespaceName.MatchString(s) }

// options checks what is said once for all objects.
func (o *Options) check() error {
	if o.Namespace != "" && !isNamespace(o.Namespace) {
		return fmt.Errorf("-n %q: a namespace's name has up to %d small letters, digits and hyphens", o.Namespace, mostLabel)
	}
	if o.Image == "" || strings.ContainsFunc(o.Image, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return fmt.Errorf("--image %q: no image; write REGISTRY/NAME:VERSION", o.Image)
	}
	return nil
}

// named checks the names of an object that is migrated, or passed on.
func (m *migration) named(d *document) {
	name := d.name()
	if name == "" {
		if name = generated(d.root); name != "" {
			d.text(d.root, "metadata", "generateName")
		}
	}
	switch {
	case name == "":
		m.note(d, at(d.root, "metadata"), Breaks, "it has no metadata.name; give it one, which what takes its place gets as well")
	case len(name) > mostName || !objectName.MatchString(name):
		m.note(d, at(d.root, "metadata", "name"), Breaks, "metadata.name: %q is no name that Kubernetes takes", name)
	}
	if ns := d.namespace(); ns != "" && !isNamespace(ns) {
		m.note(d, at(d.root, "metadata", "namespace"), Breaks, "metadata.namespace: %q is no name that Kubernetes takes", ns)
	}
}

// generated is the name of an object that the API server names.
func generated(root *yaml.Node) string {
	return strings.TrimSuffix(scalar(at(root, "metadata", "generateName")), "-")
}

// short is the text, or where that is longer, as much of it as leaves room for a part that tells
// it from others.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return strings.TrimRight(s[:most-9], "-.") + fmt.Sprintf("-%x", sum[:4])
}

// apart gives Sluice's containers names and ports that none of the carried ones has.
func (p *parts) apart(inits, mains []*yaml.Node) {
	theirs, ports := map[string]bool{}, map[string]*yaml.Node{}
	for _, c := range p.g.carried {
		theirs[scalar(at(c, "name"))] = true
		for _, n := range items(at(c, "ports")) {
			ports[scalar(at(n, "containerPort"))] = n
		}
	}
	for _, c := range slices.Concat(inits, mains) {
		if slices.Contains(p.g.carried, c) {
			continue
		}
		for name := at(c, "name"); theirs[name.Value]; {
			name.Value += "-sluice"
		}
		for _, n := range items(at(c, "ports")) {
			if number := scalar(at(n, "containerPort")); ports[number] != nil {
				p.m.note(p.g.d, ports[number], Breaks, "port %s of a container that is passed on is one of Sluice's as well (9090: SLUICE_ADMIN's); a pod has each once", number)
			}
		}
	}
}

// twins notes what is written twice, of which the second would take the first one's place, and
// Deployments that would take each other's pods for theirs.
func (m *migration) twins() {
	type key struct{ what, namespace, name string }
	known := map[key]bool{}
	for _, o := range m.out {
		kind, ns, name := scalar(at(o, "kind")), scalar(at(o, "metadata", "namespace")), scalar(at(o, "metadata", "name"))
		d := m.before(kind, ns, name)
		k := key{kind, ns, name}
		if known[k] {
			m.note(d, nil, Breaks, "there would be two of the %s %s: rename one, or give the files in two runs", kind, name)
		}
		known[k] = true
		if selector := at(o, "spec", "selector", "matchLabels"); kind == "Deployment" && selector != nil {
			k = key{selectorOf(selector), ns, ""}
			if known[k] && name != "" {
				m.note(d, nil, Breaks, "the Deployment %s selects the pods of another one, by the labels %s: give its pods a label app.kubernetes.io/instance of their own", name, k.what)
			}
			known[k] = true
		}
	}
}

// before is the last object among the files that makes one of that name: the place of a note.
func (m *migration) before(kind, ns, name string) *document {
	var found *document
	for _, d := range m.docs {
		if d.name() == name && m.namespaceOf(d) == ns && (d.kind() == kind || templates[d.kind()] != nil) {
			found = d
		}
	}
	if found == nil {
		found = m.docs[len(m.docs)-1]
	}
	return found
}

func selectorOf(labels *yaml.Node) string {
	var all []string
	for _, k := range keys(labels) {
		all = append(all, k+"="+scalar(value(labels, k)))
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// oneLine is a text from the files as it can stand in a line that somebody reads.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// owner is the object that makes d and what is like it: what is migrated in its stead.
func owner(d *document) (kind, name string) {
	for _, o := range items(at(d.root, "metadata", "ownerReferences")) {
		if k := scalar(at(o, "kind")); scalar(at(o, "controller")) == "true" && templates[k] != nil {
			return k, scalar(at(o, "name"))
		}
	}
	return "", ""
}

// owned reports whether another object makes d, and says so.
func (m *migration) owned(d *document) bool {
	kind, name := owner(d)
	if kind == "" {
		return false
	}
	if m.find(kind, name, d) != nil {
		m.note(d, nil, Dropped, "the %s %s makes it, and is migrated", kind, name)
		return true
	}
	m.found++
	m.note(d, nil, Breaks, "the %s %s makes it, and would make another one: give what makes it (oc get %s %[2]s -o yaml), not what is made", kind, name, strings.ToLower(kind))
	return true
}
