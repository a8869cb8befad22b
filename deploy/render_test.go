package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// object is a Kubernetes object as it is sent to the API server.
type object map[string]any

func (o object) kind() string      { return o.text("kind") }
func (o object) name() string      { return o.text("metadata", "name") }
func (o object) namespace() string { return o.text("metadata", "namespace") }
func (o object) String() string    { return o.kind() + " " + o.name() }

// at is what stands at the path, nil when there is nothing.
func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o object) object(path ...string) object {
	m, _ := o.at(path...).(map[string]any)
	return m
}

// list are the objects in the list at the path.
func (o object) list(path ...string) []object {
	all, _ := o.at(path...).([]any)
	var objects []object
	for _, v := range all {
		m, _ := v.(map[string]any)
		objects = append(objects, m)
	}
	return objects
}

// set is what is applied at once, and what it stands on.
type set struct {
	name    string
	objects []object
}

// find is the object of that kind and name, in the namespace; nil when there is none.
func (s set) find(kind, name, namespace string) object {
	for _, o := range s.objects {
		if o.kind() == kind && o.name() == name && o.namespace() == namespace {
			return o
		}
	}
	return nil
}

// kinds are all objects of a kind.
func (s set) kinds(kind string) (all []object) {
	for _, o := range s.objects {
		if o.kind() == kind {
			all = append(all, o)
		}
	}
	return all
}

// rendered are the manifests as users apply them: each overlay, the examples,
// and single files with what they are for.
func rendered(t *testing.T) []set {
	t.Helper()
	var sets []set
	for _, pattern := range []string{"kustomize/overlays/*/kustomization.yaml", "examples/*/kustomization.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			sets = append(sets, set{filepath.Dir(f), build(t, filepath.Dir(f))})
		}
	}
	for below, files := range map[string][]string{
		"kustomize/overlays/openshift-sdn": {"openshift/scc.yaml", "failover/flow-schema.yaml"},
		"examples/clients":                 {"clients/agent-sandbox.yaml", "clients/cluster-network-policy.yaml", "clients/egress-firewall.yaml", "clients/tekton.yaml"},
	} {
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			sets = append(sets, set{f, append(decode(t, text), build(t, below)...)})
		}
	}
	return sets
}

// build is "kustomize build".
func build(t testing.TB, dir string) []object {
	t.Helper()
	text, err := kustomize(dir)
	require.NoError(t, err, dir)
	return decode(t, text)
}

// kustomize is build before it is decoded.
func kustomize(dir string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	return resources.AsYaml()
}

// decode reads YAML documents. A key that stands twice is an error.
func decode(t testing.TB, text []byte) (all []object) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o map[string]any // not object: it would be the type of what is inside, too
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err, strings.TrimSpace(string(text)))
		all = append(all, o)
	}
}
