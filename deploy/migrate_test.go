package deploy

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/migrate"
	"github.com/sluiceproxy/sluice/internal/migrate/migratetest"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// migrations are the manifests that "sluice migrate" makes of the pods in its testdata, by the
// name of the file.
func migrations(t *testing.T) map[string]set {
	t.Helper()
	all := map[string]set{}
	for _, path := range migratetest.Inputs(t, "../internal/migrate/testdata") {
		o := migratetest.Options(t, path)
		if o.Values {
			continue // of the chart
		}
		r, err := migrate.Migrate(o)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		if len(r.Broken()) > 0 {
			require.Equal(t, "breaks", name, "%v", r.Broken())
			continue
		}
		all[name] = set{"migrated " + name, decode(t, []byte(r.Manifest))}
	}
	require.Greater(t, len(all), 8)
	return all
}

// TestMigratedValues renders the chart with the values that are made of pods: its schema takes
// them, the programs understand what comes out, and the Services of the old pods find it.
func TestMigratedValues(t *testing.T) {
	rendered := 0
	for _, path := range migratetest.Inputs(t, "../internal/migrate/testdata") {
		o := migratetest.Options(t, path)
		if !o.Values {
			continue
		}
		r, err := migrate.Migrate(o)
		require.NoError(t, err)
		if strings.Contains(path, "values-several") {
			require.Len(t, r.Broken(), 1, "the chart has no values for it")
			continue
		}
		require.Empty(t, r.Broken(), path)
		values := filepath.Join(t.TempDir(), "values.yaml")
		require.NoError(t, os.WriteFile(values, []byte(r.Manifest), 0o600))
		text, err := template(t, "moved", "--values="+values, "--set=image="+o.Image)
		require.NoError(t, err, "%s\n%s", path, r.Manifest)
		s := set{path, decode(t, text)}
		old := decode(t, []byte(o.Files[0].Text))
		for _, p := range podsOf(s) {
			if isHook(p.owner) {
				continue // of helm test
			}
			for _, service := range old {
				if service.kind() == "Service" {
					require.True(t, matches(service.object("spec", "selector"), p.labels), "%s: the Service finds the pods", path)
				}
			}
			for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
				checkSettings(t, p, c, append(texts(c, "command"), texts(c, "args")...))
				rendered++
			}
		}
	}
	require.GreaterOrEqual(t, rendered, 6)
}

// keyFiles are the files that a container finds in its ConfigMaps, those named by items.
func keyFiles(p pod, c object) map[string]string {
	files := map[string]string{}
	for _, m := range c.list("volumeMounts") {
		for _, v := range p.spec.list("volumes") {
			data := p.all.find("ConfigMap", v.text("configMap", "name"), p.namespace).object("data")
			for _, item := range v.list("configMap", "items") {
				if text, ok := data[item.text("key")].(string); ok && m.text("name") == v.text("name") {
					files[m.text("mountPath")+"/"+item.text("path")] = text
				}
			}
		}
	}
	return files
}

// TestMigratedManifests holds what is migrated to what manifests are held to here: the schemas,
// what the programs make of their settings, no privilege but two capabilities, one pod an address.
func TestMigratedManifests(t *testing.T) {
	programs := map[string]int{}
	for _, s := range migrations(t) {
		for _, o := range s.objects {
			assert.Empty(t, judge(o), "%s: %s", s.name, o)
		}
		for _, p := range podsOf(s) {
			assert.True(t, matches(p.owner.object("spec", "selector", "matchLabels"), p.labels), "%s selects its pods", p)
			for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
				if image := c.text("image"); !strings.Contains(image, "sluice") {
					continue // of somebody else
				}
				command := append(texts(c, "command"), texts(c, "args")...)
				programs[command[0]]++
				requireLeast(t, p, c, command[0] == "/sluice-netsetup")
				requireStarts(t, p, c, command)
			}
		}
	}
	require.Greater(t, programs["proxy"], 2)
	require.Greater(t, programs["tcp"], 2)
	require.Greater(t, programs["/sluice-netsetup"], 8)
}

// requireLeast wants the least privilege of a container.
func requireLeast(t *testing.T, p pod, c object, setup bool) {
	t.Helper()
	sc := c.object("securityContext")
	require.Equal(t, false, sc["allowPrivilegeEscalation"], p)
	require.Equal(t, true, sc["readOnlyRootFilesystem"], p)
	require.Nil(t, sc["privileged"], p)
	require.Equal(t, []any{"ALL"}, sc.at("capabilities", "drop"), p)
	if setup {
		require.Equal(t, []any{"NET_ADMIN", "NET_RAW"}, sc.at("capabilities", "add"), p)
		require.Equal(t, 1, p.owner.at("spec", "replicas"), p)
		require.Equal(t, "Recreate", p.owner.text("spec", "strategy", "type"), p)
		return
	}
	require.Nil(t, sc.at("capabilities", "add"), p)
	require.Equal(t, true, sc["runAsNonRoot"], p)
}

// requireStarts loads a container's settings as its program will. A ConfigMap that is not
// among the objects is left out: a note has said so.
func requireStarts(t *testing.T, p pod, c object, command []string) {
	t.Helper()
	files := keyFiles(p, c)
	in := settings.Input{ReadFile: func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}}
	if len(c.list("volumeMounts")) > 0 && len(files) == 0 {
		require.Contains(t, p.String(), "egress-http")
		return
	}
	in.Environ = p.environ(t, c)
	switch command[0] {
	case "proxy":
		in.Flags = flagSet(t, config.ProxySettings(), command[1:])
		loaded, err := config.LoadProxy(in)
		require.NoError(t, err, p)
		for _, w := range loaded.Warnings {
			require.Contains(t, w.Msg, "host bits", p) // as they were, and a note tells
		}
		require.Greater(t, p.grace(t), loaded.ShutdownDelay+loaded.DrainTimeout, p)
	case "tcp":
		in.Flags = flagSet(t, config.TCPSettings(), command[1:])
		loaded, err := config.LoadTCP(in)
		require.NoError(t, err, p)
		require.Empty(t, loaded.Warnings, p)
	default:
		if text, ok := files["/etc/sluice/destinations.txt"]; ok {
			in.Environ = append(in.Environ, "EGRESS_DESTINATION="+text)
		}
		problems, _ := migratetest.Netsetup(in.Environ)
		require.Empty(t, problems, p)
	}
}
