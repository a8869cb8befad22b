package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// TestSchemas holds every object against the schema of its kind: a key that the
// kind does not have, a value of another type, a key that is missing.
//
// The schemas are those that kustomize has in it, of Kubernetes 1.21: the manifests
// use nothing that came later but what laterKeys has. "make validate-deploy" asks newer ones.
func TestSchemas(t *testing.T) {
	for _, s := range rendered(t) {
		for _, o := range s.objects {
			for _, problem := range judge(o) {
				t.Errorf("%s: %s: %s", s.name, o, problem)
			}
		}
	}
}

// judge returns what is wrong with o.
func judge(o object) []string {
	if custom, ok := customKinds[o.text("apiVersion")+" "+o.kind()]; ok {
		return judgeCustom(o, custom())
	}
	rs := openapi.SchemaForResourceType(yaml.TypeMeta{APIVersion: o.text("apiVersion"), Kind: o.kind()})
	if rs == nil {
		return []string{"no such kind in " + o.text("apiVersion")}
	}
	return judgeValue(o.kind(), map[string]any(o), rs.Schema)
}

func judgeValue(path string, v any, s *spec.Schema) []string {
	if s.Ref.String() != "" {
		to, err := openapi.Resolve(&s.Ref, openapi.Schema())
		if err != nil {
			return []string{err.Error()}
		}
		return judgeValue(path, v, to)
	}
	want := "anything"
	if len(s.Type) > 0 {
		want = s.Type[0]
	}
	var ok bool
	switch want {
	case "object":
		var m map[string]any
		if m, ok = v.(map[string]any); ok {
			return judgeObject(path, m, s)
		}
	case "array":
		var all []any
		if all, ok = v.([]any); ok {
			var problems []string
			for i, item := range all {
				problems = append(problems, judgeValue(fmt.Sprintf("%s[%d]", path, i), item, s.Items.Schema)...)
			}
			return problems
		}
	case "string":
		_, ok = v.(string)
		if _, number := v.(int); number && s.Format == "int-or-string" {
			ok = true
		}
	case "integer":
		_, ok = v.(int)
	case "boolean":
		_, ok = v.(bool)
	default:
		ok = true
	}
	if !ok {
		return []string{fmt.Sprintf("%s is %T, not %s", path, v, want)}
	}
	return nil
}

func judgeObject(path string, m map[string]any, s *spec.Schema) (problems []string) {
	for key, v := range m {
		at := path + "." + key
		switch property, ok := s.Properties[key]; {
		case ok:
			problems = append(problems, judgeValue(at, v, &property)...)
		case later(at, v):
		case s.AdditionalProperties != nil:
			problems = append(problems, judgeValue(at, v, s.AdditionalProperties.Schema)...)
		case len(s.Properties) > 0:
			problems = append(problems, at+": there is no such key")
		}
	}
	for _, key := range s.Required {
		if _, ok := m[key]; !ok {
			problems = append(problems, path+"."+key+" is missing")
		}
	}
	return problems
}

// laterKeys are those that came after the schemas, by their values: what makes an init
// container a sidecar, of Kubernetes 1.29.
var laterKeys = map[string]any{"restartPolicy": "Always"}

// later reports whether the key of an init container at the path is such a one.
func later(path string, v any) bool {
	m := regexp.MustCompile(`\.initContainers\[\d+\]\.([^.]+)$`).FindStringSubmatch(path)
	return m != nil && laterKeys[m[1]] == v && v != nil
}

// customKinds are kinds that the schemas do not have, with as much of them
// as is used here. A pointer or a slice must be there.
var customKinds = map[string]func() any{
	"k8s.cni.cncf.io/v1 NetworkAttachmentDefinition": func() any {
		return new(struct {
			header
			Spec struct{ Config string }
		})
	},
	"flowcontrol.apiserver.k8s.io/v1 FlowSchema": func() any {
		return new(struct {
			header
			Spec struct {
				PriorityLevelConfiguration struct{ Name string }
				MatchingPrecedence         *int
				DistinguisherMethod        struct{ Type string }
				Rules                      []struct {
					Subjects []struct {
						Kind           string
						ServiceAccount *struct{ Name, Namespace string }
					}
					ResourceRules []struct{ APIGroups, Resources, Namespaces, Verbs []string }
				}
			}
		})
	},
	"k8s.ovn.org/v1 EgressFirewall": func() any {
		return new(struct {
			header
			Spec struct {
				Egress []struct {
					Type string
					To   struct{ CIDRSelector string }
				}
			}
		})
	},
	"policy.networking.k8s.io/v1beta1 ClusterNetworkPolicy": func() any {
		type selector struct{ MatchLabels map[string]string }
		type pods struct{ NamespaceSelector, PodSelector selector }
		type protocol struct{ DestinationPort struct{ Number int } }
		return new(struct {
			header
			Spec struct {
				Tier     string
				Priority *int
				Subject  struct{ Namespaces *selector }
				Egress   []struct {
					Name, Action string
					To           []struct {
						Pods       pods
						Namespaces struct{}
						Networks   []string `json:",omitempty"`
					}
					Protocols []struct{ TCP, UDP protocol } `json:",omitempty"`
				}
			}
		})
	},
	"extensions.agents.x-k8s.io/v1beta1 SandboxTemplate": func() any {
		return new(struct {
			header
			Spec struct {
				NetworkPolicyManagement string
				PodTemplate             struct{ Spec map[string]any } // TestRecipes judges it
			}
		})
	},
	"tekton.dev/v1 Task": func() any {
		return new(struct {
			header
			Spec struct {
				StepTemplate struct {
					EnvFrom []struct{ ConfigMapRef struct{ Name string } }
				}
				Steps []struct{ Name, Image, Script string }
			}
		})
	},
	"monitoring.coreos.com/v1 ServiceMonitor": func() any {
		return new(struct {
			header
			Spec struct {
				Selector  struct{ MatchLabels map[string]string }
				Endpoints []struct{ Port, Path, Interval string }
			}
		})
	},
	"security.openshift.io/v1 SecurityContextConstraints": func() any {
		type strategy struct{ Type string }
		return new(struct {
			header
			AllowHostDirVolumePlugin, AllowHostIPC, AllowHostNetwork, AllowHostPID, AllowHostPorts, //
			AllowPrivilegeEscalation, AllowPrivilegedContainer, ReadOnlyRootFilesystem *bool
			AllowedCapabilities, DefaultAddCapabilities, RequiredDropCapabilities, SeccompProfiles, //
			Volumes, Users, Groups []string
			RunAsUser, SELinuxContext, FSGroup, SupplementalGroups strategy
		})
	},
}

type header struct {
	APIVersion, Kind string
	Metadata         struct {
		Name, Namespace string
		Labels          map[string]string
	}
}

// judgeCustom decodes o into a struct that has all keys of its kind.
func judgeCustom(o object, into any) []string {
	text, err := json.Marshal(o)
	if err != nil {
		return []string{err.Error()}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return []string{err.Error()}
	}
	back, err := json.Marshal(into)
	if err != nil {
		return []string{err.Error()}
	}
	if strings.Contains(strings.NewReplacer(`"Labels":null`, "", `"MatchLabels":null`, "").Replace(string(back)), ":null") {
		return []string{"something is missing: " + string(back)}
	}
	return nil
}

// TestJudge shows that the judge above is none who nods.
func TestJudge(t *testing.T) {
	text, err := json.Marshal(upon(t, "kustomize/overlays/openshift-sdn", []string{"service-monitor", "disruption-budget"}, "").objects)
	require.NoError(t, err)
	for _, tt := range []struct{ kind, from, to, want string }{
		{"Deployment", `"readOnlyRootFilesystem"`, `"readonlyRootFilesystem"`, "Deployment.spec.template.spec.containers[0].securityContext.readonlyRootFilesystem: there is no such key"},
		{"Deployment", `"replicas":1`, `"replicas":"1"`, "Deployment.spec.replicas is string, not integer"},
		{"Deployment", `"mountPath"`, `"path"`, "Deployment.spec.template.spec.containers[0].volumeMounts[0].mountPath is missing"},
		{"Deployment", `["proxy","--rules"`, `[1,"--rules"`, "Deployment.spec.template.spec.containers[0].args[0] is int, not string"},
		{"Service", `"port":8080`, `"ports":8080`, "Service.spec.ports[0].port is missing"},
		{"NetworkPolicy", `"podSelector":{"matchLabels"`, `"selector":{"matchLabels"`, "NetworkPolicy.spec.podSelector is missing"},
		{"PodDisruptionBudget", `"policy/v1"`, `"policy/v9"`, "no such kind in policy/v9"},
		{"ServiceMonitor", `"interval"`, `"every"`, `json: unknown field "every"`},
	} {
		changed := strings.ReplaceAll(string(text), tt.from, tt.to)
		require.NotEqual(t, string(text), changed, tt.from)
		var all []map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(changed), &all))
		var problems []string
		for _, o := range all {
			if o := object(o); o.kind() == tt.kind {
				problems = append(problems, judge(o)...)
			}
		}
		assert.Truef(t, slices.Contains(problems, tt.want), "%s: %q", tt.want, problems)
	}
}
