package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const migrateData = "../../internal/migrate/testdata/"

func TestMigrate(t *testing.T) {
	status, out, err := sluice(t, nil, "", "migrate", "-n", "egress", migrateData+"http-proxy.yaml")
	assert.Zero(t, status)
	assert.Contains(t, out, "kind: Deployment\nmetadata:\n  name: egress-1\n  namespace: egress\n")
	assert.Contains(t, err, migrateData+"http-proxy.yaml:2: Pod egress-1: the Pod becomes a Deployment")

	const ours = "migrate: the image is localhost/sluice:dev, which no registry has; --image REGISTRY/sluice:VERSION names yours\n"
	assert.Contains(t, err, ours)
	_, _, err = sluice(t, nil, "", "migrate", "--image", "registry.test/sluice:v1", migrateData+"http-proxy.yaml")
	assert.NotContains(t, err, ours)

	pod, readErr := os.ReadFile(migrateData + "http-proxy.yaml")
	require.NoError(t, readErr)
	status, out, err = sluice(t, nil, string(pod), "migrate", "--check", "-")
	assert.Equal(t, []any{0, "", ""}, []any{status, out, err})

	status, out, err = sluice(t, nil, "", "migrate", "--values", "--image", "registry.test/sluice:v1", migrateData+"values-http.yaml")
	assert.Zero(t, status, err)
	assert.Contains(t, out, "image: registry.test/sluice:v1\nmode: proxy\n")

	status, out, err = sluice(t, nil, "", "migrate", migrateData+"breaks.yaml")
	assert.Equal(t, 1, status)
	assert.Empty(t, out, "whole or not at all")
	assert.Contains(t, err, "of these would break; --check lists them alone\n")

	for args, want := range map[string]string{
		"absent": "migrate: read manifests: open absent: no such file or directory\n",
		"-p X " + migrateData + "http-proxy.yaml":   "migrate: -p X: write NAME=VALUE\n",
		"-p X=y " + migrateData + "http-proxy.yaml": "migrate: -p X: no Template in the files has such a parameter\n",
	} {
		status, out, err := sluice(t, nil, "", append([]string{"migrate"}, strings.Fields(args)...)...)
		assert.Equal(t, []any{2, "", want}, []any{status, out, err})
	}
}

// Nothing is read twice: the second time standard input is empty, and a file would be two of everything.
func TestMigrateTwice(t *testing.T) {
	for _, name := range []string{"-", "../../internal/migrate/testdata/http-proxy.yaml"} {
		status, out, err := sluice(t, nil, "", "migrate", name, name)
		assert.Equal(t, []any{2, "", "migrate: " + name + " is named twice; name each file once\n"}, []any{status, out, err})
	}
}
