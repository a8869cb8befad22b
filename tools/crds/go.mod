// Definitions of the kinds that operators bring, for the tests that have an API server take the
// manifests: the files in these modules, none of which is compiled.
module github.com/sluiceproxy/sluice/tools/crds

go 1.26.6

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/network-policy-api v0.3.0
)
