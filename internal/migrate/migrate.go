package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Options is what is migrated, and how.
type Options struct {
	Files     []File
	Params    map[string]string // of Templates, by name
	Namespace string            // of objects that name none; "": it is not known
	Image     string            // the image that containers get
	Values    bool              // make values of the Helm chart, not manifests

	// Netsetup returns what sluice-netsetup says is wrong with an environment, and whether it
	// could be asked. If nil, it cannot be.
	Netsetup func(environ []string) (problems []string, asked bool)
}

// Level is what a note means for whoever migrates.
type Level uint8

// From the least to the most that there is to do.
const (
	Differs Level = iota // it behaves differently
	Dropped              // it is not taken over
	Breaks               // it would not start, or would open what was closed
)

// Note is one thing that is not as it was.
type Note struct {
	File   string
	Line   int
	Object string // "Pod egress-1"
	Level  Level
	Msg    string
}

// String is "FILE:LINE: OBJECT: what", on one line, whatever the files have for names.
func (n Note) String() string {
	level := map[Level]string{Dropped: "not taken over: ", Breaks: "breaks: "}[n.Level]
	return oneLine(fmt.Sprintf("%s:%d: %s: %s%s", n.File, n.Line, n.Object, level, n.Msg))
}

func (n Note) at(l Level) Note {
	n.Level = l
	return n
}

// Result is what takes the place of what was read.
type Result struct {
	Manifest string // YAML documents; "" when a note breaks
	Notes    []Note // in the order of the files; of one object the breaking ones first
}

// Broken are the notes that break.
func (r *Result) Broken() (all []Note) {
	for _, n := range r.Notes {
		if n.Level == Breaks {
			all = append(all, n)
		}
	}
	return all
}

// ErrNothing means that the files hold nothing that could be migrated.
var ErrNothing = errors.New("nothing to migrate: no object has the variables of the egress router or of the community haproxy image (EGRESS_…, SERVICE_DEST), and none is an EgressRouter")

// Migrate reads the files and writes what takes their place. The error is of what could not
// be read at all.
func Migrate(o Options) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	docs, err := read(o.Files, o.Params)
	if err != nil {
		return nil, err
	}
	m := &migration{Options: o, docs: docs, absent: map[*document][]Note{}}
	for _, d := range docs {
		m.document(d)
	}
	if m.found == 0 {
		for _, d := range docs {
			m.notes = append(m.notes, m.absent[d]...)
		}
		if m.notes == nil {
			return nil, ErrNothing
		}
		return &Result{Notes: m.notes}, nil
	}
	m.others()
	m.twins()
	if o.Values {
		m.asValues(m.gathered)
	}
	slices.SortStableFunc(m.notes, m.order)
	r := &Result{Notes: m.notes}
	if len(r.Broken()) > 0 {
		return r, nil
	}
	r.Manifest, err = write(m.out)
	return r, err
}

// migration is one run.
type migration struct {
	Options
	docs  []*document
	found int // objects that are migrated
	// The values of each, when they are asked for.
	gathered []*yaml.Node
	out      []*yaml.Node
	notes    []Note
	absent   map[*document][]Note // of ConfigMaps whose variables pods have, and that are not among the files
}

func (m *migration) order(a, b Note) int {
	place := func(n Note) int { return slices.IndexFunc(m.Files, func(f File) bool { return f.Name == n.File }) }
	if c := place(a) - place(b); c != 0 {
		return c
	}
	if a.Object == b.Object && a.Level != b.Level {
		return int(b.Level) - int(a.Level)
	}
	return a.Line - b.Line
}

func (m *migration) note(d *document, n *yaml.Node, level Level, format string, args ...any) {
	m.notes = append(m.notes, noteOf(d, n, level, format, args...))
}

func noteOf(d *document, n *yaml.Node, level Level, format string, args ...any) Note {
	line := d.root.Line
	if n != nil && n.Line > 0 {
		line = n.Line
	}
	return Note{File: d.file, Line: line, Object: d.String(), Level: level, Msg: fmt.Sprintf(format, args...)}
}

// templates are where the kinds of objects have their pods.
var templates = map[string][]string{
	"Pod":        {},
	"Deployment": {"spec", "template"}, "DeploymentConfig": {"spec", "template"}, "ReplicationController": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
	"Job": {"spec", "template"},
}

func (m *migration) document(d *document) {
	if d.kind() == "EgressRouter" {
		m.found++
		d.done = true
		m.named(d)
		m.egressRouter(d)
		return
	}
	path, ok := templates[d.kind()]
	if !ok {
		return
	}
	if !m.shaped(d, at(d.root, path...)) {
		m.found++
		d.done = true
		return
	}
	g := m.gateway(d, at(d.root, path...))
	if g == nil {
		return
	}
	m.found++
	m.named(d)
	m.render(g)
	m.leftovers(d)
}

// clusters are fields that the cluster fills in, whoever wrote the object.
var clusters = []string{"status", "metadata.uid", "metadata.resourceVersion", "metadata.creationTimestamp", "metadata.managedFields",
	"metadata.selfLink", "metadata.generation", "metadata.ownerReferences", "metadata.generateName", "spec.template.metadata.creationTimestamp"}

// isDefault reports whether the API server would fill in the same, whoever wrote the object.
func isDefault(path string, n *yaml.Node) bool {
	v, ok := map[string]string{"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "progressDeadlineSeconds": "600",
		"revisionHistoryLimit": "10", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}[path[strings.LastIndex(path, ".")+1:]]
	return ok && scalar(n) == v || strings.HasSuffix(path, ".securityContext") && n.Kind == yaml.MappingNode && len(n.Content) == 0
}

// leftovers notes what of d nobody has taken.
func (m *migration) leftovers(d *document) {
	d.text(d.root, "apiVersion")
	d.text(d.root, "kind")
	d.text(d.root, "metadata", "name")
	d.text(d.root, "metadata", "namespace")
	var own []string
	for _, l := range d.left(d.root, "") {
		if slices.Contains(clusters, l.path) || isDefault(l.path, l.node) {
			own = append(own, l.path)
			continue
		}
		m.note(d, l.node, Dropped, "%s%s", l, because(l.path))
	}
	if own != nil {
		m.note(d, nil, Dropped, "what the cluster fills in: %s", strings.Join(own, ", "))
	}
}

// others passes on or names the objects that no pod is in.
func (m *migration) others() {
	for _, d := range m.docs {
		path, workload := templates[d.kind()]
		switch {
		case d.done || d.used[d.root]:
		case workload:
			m.note(d, nil, Dropped, "no part of an egress router: it has none of the variables%s", podless(at(d.root, path...)))
			for _, n := range m.absent[d] {
				m.notes = append(m.notes, n.at(Dropped))
			}
		case slices.Contains(passed, d.kind()):
			m.named(d)
			m.out = append(m.out, m.clean(d))
		default:
			m.note(d, nil, Dropped, "objects of this kind stay as they are in the cluster")
		}
	}
}

func podless(template *yaml.Node) string {
	if at(template, "spec", "containers") == nil {
		return ", nor containers"
	}
	return ""
}

// passed are the kinds of objects that gateways use, and that are written as they are.
var passed = []string{"ConfigMap", "Service", "NetworkAttachmentDefinition", "Namespace", "ServiceAccount", "Secret", "NetworkPolicy"}

// clean is an object as it was applied once, without what the cluster filled in.
func (m *migration) clean(d *document) *yaml.Node {
	d.mark(d.root)
	var own []string
	for _, path := range clusters {
		parts := strings.Split(path, ".")
		parent := at(d.root, parts[:len(parts)-1]...)
		if removed := without(parent, parts[len(parts)-1]); removed {
			own = append(own, path)
		}
	}
	if d.kind() == "Service" {
		for _, key := range []string{"clusterIP", "clusterIPs"} {
			if scalar(at(d.root, "spec", key)) != "None" && without(at(d.root, "spec"), key) {
				own = append(own, "spec."+key)
			}
		}
	}
	if own != nil {
		m.note(d, nil, Dropped, "what the cluster fills in: %s", strings.Join(own, ", "))
	}
	if meta := at(d.root, "metadata"); meta != nil && d.namespace() == "" && m.Namespace != "" && d.kind() != "Namespace" {
		meta.Content = append(meta.Content, text("namespace"), text(m.Namespace))
	}
	return d.root
}

// without takes a key out of a mapping, and reports whether it was there.
func without(n *yaml.Node, key string) bool {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return true
		}
	}
	return false
}

// because says of a field why it is not taken over, where that is not plain.
func because(path string) string {
	for _, b := range []struct{ in, why string }{
		{".privileged", " (NET_ADMIN and NET_RAW are enough, and only sluice-netsetup has them)"},
		{".securityContext", " (Sluice's containers have a stricter one of their own)"},
		{"readinessProbe", " (Sluice is asked at its admin port)"},
		{"livenessProbe", " (Sluice is asked at its admin port)"},
		{"startupProbe", " (Sluice is asked at its admin port)"},
		{".lifecycle", " (what it runs is not in Sluice's image)"},
		{".volumeMounts", " (its files mean nothing to Sluice)"},
		{"rollingUpdate", " (a source address is at one place at a time: Recreate)"},
		{"spec.triggers", " (a Deployment has none: name the image's version)"},
		{"spec.test", " (a Deployment has none)"},
	} {
		if strings.Contains(path, b.in) {
			return b.why
		}
	}
	return ""
}
