package migrate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/migrate"
	"github.com/sluiceproxy/sluice/internal/migrate/migratetest"
)

// relay is the containers of a pod of the community image.
const relay = `{containers: [{name: c, env: [{name: SERVICE_DEST, value: a.test}, {name: SERVICE_TCP_PORT, value: "8080"}]}]}`

func migrated(t *testing.T, text string) (notes []string, manifest string) {
	t.Helper()
	r, err := migrate.Migrate(migrate.Options{Files: []migrate.File{{Name: "f", Text: text}}, Image: "i", Namespace: "n", Netsetup: migratetest.Netsetup})
	require.NoError(t, err)
	for _, n := range r.Notes {
		notes = append(notes, n.String())
	}
	return notes, r.Manifest
}

// What the API server would refuse, or what would be another thing than was meant, breaks.
func TestBreaks(t *testing.T) {
	long := strings.Repeat("n", 254)
	for name, tt := range map[string]struct{ text, want string }{
		"a name of two lines":        {"kind: Pod\nmetadata: {name: \"x\\n---\\nkind: Evil\\e[2J\"}\nspec: " + relay, `f:2: Pod x\n---\nkind: Evil\x1b[2J: breaks: metadata.name: "x\n---\nkind: Evil\x1b[2J" is no name that Kubernetes takes`},
		"a name that is too long":    {"kind: Pod\nmetadata: {name: " + long + "}\nspec: " + relay, "f:2: Pod " + long + `: breaks: metadata.name: "` + long + `" is no name that Kubernetes takes`},
		"no name":                    {"kind: Pod\nmetadata: {}\nspec: " + relay, "f:2: Pod : breaks: it has no metadata.name; give it one, which what takes its place gets as well"},
		"a namespace with a blank":   {"kind: Pod\nmetadata: {name: p, namespace: a b}\nspec: " + relay, `f:2: Pod p: breaks: metadata.namespace: "a b" is no name that Kubernetes takes`},
		"a ConfigMap without a name": {"kind: Pod\nmetadata: {name: p}\nspec: " + relay + "\n---\nkind: ConfigMap\n", "f:5: ConfigMap : breaks: it has no metadata.name; give it one, which what takes its place gets as well"},
		"containers that are no list": {"kind: Pod\nmetadata: {name: p}\nspec: {containers: {name: c, env: [{name: SERVICE_DEST, value: a.test}]}}",
			"f:3: Pod p: breaks: spec.containers: a list is wanted"},
		"variables that are no list": {"kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, env: {SERVICE_DEST: a.test}}]}",
			"f:3: Pod p: breaks: spec.containers[0].env: a list is wanted"},
		"a value that is a list": {"kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, env: [{name: SERVICE_DEST, value: [a.test]}]}]}",
			"f:3: Pod p: breaks: spec.containers[0].env[0].value: a text is wanted"},
		"a container that is none": {"kind: Pod\nmetadata: {name: p}\nspec: {containers: [null]}", "f:3: Pod p: breaks: spec.containers[0]: a mapping is wanted"},
		"two of one name": {"kind: Pod\nmetadata: {name: p}\nspec: " + relay + "\n---\nkind: Deployment\nmetadata: {name: p}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: " + relay + "}}",
			"f:5: Deployment p: breaks: there would be two of the Deployment p: rename one, or give the files in two runs"},
		"two of one selector": {"kind: Pod\nmetadata: {name: p, labels: {app.kubernetes.io/instance: x}}\nspec: " + relay + "\n---\nkind: Pod\nmetadata: {name: q, labels: {app.kubernetes.io/instance: x}}\nspec: " + relay,
			"f:5: Pod q: breaks: the Deployment q selects the pods of another one, by the labels app.kubernetes.io/component=gateway,app.kubernetes.io/instance=x,app.kubernetes.io/name=sluice: give its pods a label app.kubernetes.io/instance of their own"},
		"a pod that something makes": {"kind: Pod\nmetadata: {name: p-1, ownerReferences: [{kind: ReplicaSet, name: p, controller: true}]}\nspec: " + relay,
			"f:1: Pod p-1: breaks: the ReplicaSet p makes it, and would make another one: give what makes it (oc get replicaset p -o yaml), not what is made"},
		"an absent ConfigMap that may hold it": {"kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, envFrom: [{configMapRef: {name: m}}]}]}",
			"f:3: Pod p: breaks: envFrom takes the variables of the ConfigMap m, which is not among the files: give it too (oc get configmap m -o yaml)"},
		"a macvlan of another mode": {"kind: EgressRouter\nmetadata: {name: e}\nspec: {mode: Redirect, networkInterface: {macvlan: {mode: 'bridge\", \"type\": \"host-device'}}, addresses: [{ip: 192.0.2.1/24, gateway: 192.0.2.254}]}",
			`f:3: EgressRouter e: breaks: the mode "bridge\", \"type\": \"host-device" is none of a macvlan; bridge, private, vepa, passthru are`},
		"an interface that is none": {"kind: EgressRouter\nmetadata: {name: e}\nspec: {mode: Redirect, networkInterface: {macvlan: {master: \"eth0\\t\"}}, addresses: [{ip: 192.0.2.1/24, gateway: 192.0.2.254}]}",
			`f:3: EgressRouter e: breaks: "eth0\t" is no name of an interface`},
		"Sluice's port": {"kind: Pod\nmetadata: {name: p}\nspec: {containers: [" + relay[14:len(relay)-2] + ", {name: exporter, image: x, ports: [{containerPort: 9090}]}]}",
			"f:3: Pod p: breaks: port 9090 of a container that is passed on is one of Sluice's as well (9090: SLUICE_ADMIN's); a pod has each once"},
	} {
		t.Run(name, func(t *testing.T) {
			notes, manifest := migrated(t, tt.text)
			assert.Contains(t, notes, tt.want)
			assert.Empty(t, manifest)
		})
	}
}

// What "oc get all" has: what makes the pods is migrated, once, and what it makes is not. Others
// are named, whatever their variables come from.
func TestEverythingOfANamespace(t *testing.T) {
	notes, manifest := migrated(t, `
kind: List
items:
- kind: Pod
  metadata: {name: p-1-2, ownerReferences: [{kind: ReplicaSet, name: p-1, controller: true}]}
  spec: `+relay+`
- kind: Deployment
  metadata: {name: p}
  spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: `+relay+`}}
- kind: ReplicaSet
  metadata: {name: p-1, ownerReferences: [{kind: Deployment, name: p, controller: true}]}
  spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: `+relay+`}}
- kind: Pod
  metadata: {name: other}
  spec: {containers: [{name: c, envFrom: [{configMapRef: {name: known}}, {configMapRef: {name: absent}}]}]}
- kind: ConfigMap
  metadata: {name: known}
  data: {A: b}
`)
	assert.Equal(t, 1, strings.Count(manifest, "kind: Deployment"), manifest)
	assert.Contains(t, notes, "f:4: Pod p-1-2: not taken over: the ReplicaSet p-1 makes it, and is migrated")
	assert.Contains(t, notes, "f:10: ReplicaSet p-1: not taken over: the Deployment p makes it, and is migrated")
	assert.Contains(t, notes, "f:13: Pod other: not taken over: no part of an egress router: it has none of the variables")
	assert.Contains(t, notes, "f:15: Pod other: not taken over: envFrom takes the variables of the ConfigMap absent, which is not among the files: give it too (oc get configmap absent -o yaml)")
}

// Names and labels that a pod may have, and of which a Deployment would be refused.
func TestSelectors(t *testing.T) {
	name := strings.Repeat("n", 80)
	_, manifest := migrated(t, "kind: Pod\nmetadata: {name: "+name+"}\nspec: "+relay)
	assert.Contains(t, manifest, "  name: "+name+"\n")
	assert.Equal(t, 4, strings.Count(manifest, "app.kubernetes.io/instance: "+name[:54]+"-feed930b\n"), manifest)

	_, manifest = migrated(t, "kind: Pod\nmetadata: {name: p, labels: {app.kubernetes.io/name: squid}}\nspec: "+relay)
	assert.Equal(t, 2, strings.Count(manifest, "      app.kubernetes.io/name: squid\n"), "selector and labels: %s", manifest)

	_, manifest = migrated(t, "kind: Deployment\napiVersion: extensions/v1beta1\nmetadata: {name: p}\nspec: {template: {metadata: {labels: {a: b}}, spec: "+relay+"}}")
	assert.Contains(t, manifest, "  selector:\n    matchLabels:\n      a: b\n  template:\n", "as the API server had it before apps/v1")

	_, manifest = migrated(t, "kind: Pod\nmetadata: {name: p}\nspec: {containers: ["+relay[14:len(relay)-2]+", {name: tcp, image: x}]}")
	assert.Contains(t, manifest, "      - name: tcp-sluice\n")
}

// What the chart has no value for is named, and what stands in the values is what it takes.
func TestValuesOfOddPods(t *testing.T) {
	text := `
kind: Deployment
metadata: {name: 1p.x, labels: {own: label}}
spec:
  replicas: 0
  strategy: {type: Recreate}
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b, app.kubernetes.io/name: squid}, annotations: {c: d}}
    spec: {terminationGracePeriodSeconds: 99, containers: [{name: c, imagePullPolicy: Always, env: [{name: SERVICE_DEST, value: a.test}, {name: SERVICE_TCP_PORT, value: "8080"}]}]}
---
kind: Service
metadata: {name: s}
spec: {ports: [{port: 1, targetPort: 8080}, {port: 2, targetPort: tcp-8080}`
	got := func(more string) (notes []string, manifest string) {
		r, err := migrate.Migrate(migrate.Options{Image: "i", Values: true, Files: []migrate.File{{Name: "f", Text: text + more}}})
		require.NoError(t, err)
		for _, n := range r.Notes {
			notes = append(notes, n.Msg)
		}
		return notes, r.Manifest
	}
	notes, manifest := got("]}\n")
	assert.Equal(t, `image: i
mode: tcp
network:
  type: none
podLabels:
  a: b
podAnnotations:
  c: d
replicas: 0
terminationGracePeriodSeconds: 99
tcp:
  destinations: |
    8080 a.test 8080
imagePullPolicy: Always
`, manifest, "%v", notes)
	for _, want := range []string{
		"the label app.kubernetes.io/name is the chart's own: a Service that selects by another value does not find the pods",
		"metadata.labels: the chart has no value for those of the workload",
		"spec.strategy",
		"the Deployment stays until you delete it: when the new one is ready",
	} {
		assert.Contains(t, notes, want)
	}
	r, err := migrate.Migrate(migrate.Options{Image: "i", Values: true, Files: []migrate.File{{Name: "f", Text: `
kind: Pod
metadata: {name: p, annotations: {pod.network.openshift.io/assign-macvlan: "true"}}
spec: {containers: [{name: c, env: [{name: EGRESS_SOURCE, value: 192.0.2.10}, {name: EGRESS_GATEWAY, value: 192.0.2.1},
  {name: EGRESS_DESTINATION, value: 203.0.113.1}, {name: SLUICE_PROBE, value: "false"}]}]}`}}})
	require.NoError(t, err)
	assert.True(t, slices.ContainsFunc(r.Notes, func(n migrate.Note) bool {
		return n.Level == migrate.Dropped && n.Msg == "SLUICE_PROBE: the chart has no value for it"
	}))
	notes, manifest = got(", {port: 3, targetPort: web}]}\n")
	assert.Contains(t, notes, "targetPort: web: the chart calls its ports http-proxy and tcp-NUMBER; write the number")
	assert.Empty(t, manifest)
}

func TestWrongOptions(t *testing.T) {
	for _, tt := range []struct {
		o    migrate.Options
		want string
	}{
		{migrate.Options{Namespace: "A b", Image: "i"}, `-n "A b": a namespace's name has up to 63 small letters, digits and hyphens`},
		{migrate.Options{Image: ""}, `--image "": no image; write REGISTRY/NAME:VERSION`},
		{migrate.Options{Image: "a\nb"}, `--image "a\nb": no image; write REGISTRY/NAME:VERSION`},
	} {
		_, err := migrate.Migrate(tt.o)
		assert.EqualError(t, err, tt.want)
	}
}

// A parameter that stands for a value as JSON, ${{NAME}}, can be a list; one within a text is text.
func TestTemplateValues(t *testing.T) {
	r, err := migrate.Migrate(migrate.Options{Image: "i", Files: []migrate.File{{Name: "f", Text: `
kind: Template
parameters: [{name: N, value: "2"}, {name: L, value: '[{"key": "a", "operator": "Exists"}]'}, {name: T, value: "a: b"}, {name: X, value: "x\n- kind: Evil"}]
objects:
- kind: Deployment
  metadata: {name: p, annotations: {x: "${X}", t: "${{T}}"}}
  spec:
    replicas: ${{N}}
    selector: {matchLabels: {a: b}}
    template:
      metadata: {labels: {a: b}}
      spec: {tolerations: "${{L}}", containers: [{name: c, env: [{name: SERVICE_DEST, value: a.test}, {name: SERVICE_TCP_PORT, value: "808${N}"}]}]}
`}}})
	require.NoError(t, err)
	assert.Contains(t, r.Manifest, "  replicas: 2\n")
	assert.Contains(t, r.Manifest, "      tolerations:\n      - key: a\n        operator: Exists\n")
	assert.Contains(t, r.Manifest, "    x: |-\n      x\n      - kind: Evil\n    t: 'a: b'\n")
	assert.Contains(t, r.Manifest, "value: \"8082\"\n")
}

// Variables that name others are filled in as the kubelet does, in their order; those that it
// alone knows go along.
func TestVariablesOfVariables(t *testing.T) {
	pod := func(env string) string {
		return "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, env: [" + env + ", {name: SERVICE_TCP_PORT, value: '8080'}]}]}"
	}
	for name, tt := range map[string]struct{ env, want string }{
		"known":       {`{name: HOST, value: a.test}, {name: SERVICE_DEST, value: "$(HOST):1;b.$(HOST)"}`, "        env:\n        - name: SERVICE_DEST\n          value: a.test:1;b.a.test\n        - name: SERVICE_TCP_PORT\n"},
		"later":       {`{name: SERVICE_DEST, value: "a.test"}, {name: SERVICE_NAME, value: $(HOST)}, {name: HOST, value: a.test}`, "value: $(HOST)\n"},
		"a cluster's": {`{name: NODE, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}, {name: SERVICE_DEST, value: $(NODE)}`, "        env:\n        - name: NODE\n          valueFrom:\n            fieldRef:\n              fieldPath: status.hostIP\n        - name: SERVICE_DEST\n          value: $(NODE)\n        - name: SERVICE_TCP_PORT\n"},
		"escaped":     {`{name: HOST, value: x}, {name: SERVICE_DEST, value: a.test}, {name: SERVICE_NAME, value: "$$(HOST)"}`, "value: $$(HOST)\n"},
		"a dollar":    {`{name: SERVICE_DEST, value: a.test}, {name: SERVICE_NAME, value: "5$"}`, "value: 5$\n"},
	} {
		t.Run(name, func(t *testing.T) {
			notes, manifest := migrated(t, pod(tt.env))
			assert.Contains(t, manifest, tt.want, "%v", notes)
		})
	}
	notes, manifest := migrated(t, pod(`{name: SERVICE_DEST, value: $(DB_SERVICE_HOST)}`))
	assert.Contains(t, notes, "f:3: Pod p: breaks: SERVICE_DEST names $(DB_SERVICE_HOST), which Services give their neighbours, and not Sluice's pods; write what it is")
	assert.Empty(t, manifest)

	// What doubles with each variable ends.
	for _, first := range []string{"value: aaaaaaaa", "valueFrom: {fieldRef: {fieldPath: status.hostIP}}"} {
		env := "{name: V0, " + first + "}"
		for i := range 60 {
			env += fmt.Sprintf(", {name: V%d, value: \"$(V%d)$(V%[2]d)\"}", i+1, i)
		}
		_, manifest = migrated(t, pod(env+`, {name: SERVICE_DEST, value: $(V60)}`))
		assert.Less(t, len(manifest), 4*1<<20)
		assert.Equal(t, 1, strings.Count(manifest, "- name: V59\n"))
	}

	// EGRESS_SOURCE goes to a second container, with what it names.
	_, manifest = migrated(t, `
kind: Pod
metadata: {name: p, annotations: {pod.network.openshift.io/assign-macvlan: "true"}}
spec:
  initContainers:
  - name: i
    env:
    - {name: IP, valueFrom: {secretKeyRef: {name: s, key: k}}}
    - {name: EGRESS_SOURCE, value: "$(IP)/24"}
    - {name: EGRESS_GATEWAY, value: 192.0.2.1}
    - {name: EGRESS_ROUTER_MODE, value: http-proxy}
  containers:
  - name: c
    env: [{name: TLD, value: test}, {name: EGRESS_HTTP_PROXY_DESTINATION, value: "# $(date)\n*.$(TLD)\n"}]
`)
	assert.Equal(t, 2, strings.Count(manifest, "        - name: IP\n"), manifest)
	assert.Contains(t, manifest, "  rules.txt: |\n    # $(date)\n    *.test\n")
}
