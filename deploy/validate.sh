#!/usr/bin/env bash
# Holds the manifests against the schemas of Kubernetes, old and new, by
# kubectl-validate, which has them in it. Nothing but modules is fetched, in the versions named
# here; the first run compiles for three minutes. go test ./deploy is the quick half of this, and
# go test ./e2e/kube asks a real API server, which knows the kinds of operators as well.
set -euo pipefail
cd "$(dirname "$0")"
kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
validate=sigs.k8s.io/kubectl-validate@v0.0.4

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/manifests"

# One file for each object. Kinds whose schema no module has are left to go test.
split() {
	csplit -s -z -f "$dir/manifests/$1-" -b %02d.yaml - '/^---$/' '{*}'
}
for overlay in kustomize/overlays/* examples/*/; do
	go run $kustomize build "$overlay" | split "$(basename "$overlay")"
done
for example in failover/*.yaml; do
	split "$(basename "$example" .yaml)" <"$example"
done
grep -lE '^kind: NetworkAttachmentDefinition' "$dir"/manifests/* | xargs -r rm

for version in 1.30 1.23; do
	if [ $version = 1.23 ]; then # a gateway that shares its address has native sidecars, of 1.29
		rm "$dir"/manifests/{active-standby,pool,flow-schema}-*
	fi
	count=$(find "$dir/manifests" -type f | wc -l)
	# Status 0 alone would not tell that it looked at all of them.
	if ! go run $validate "$dir/manifests" --version $version >"$dir/log" 2>&1 ||
		[ "$(grep -c '\.\.\..*OK' "$dir/log")" -ne "$count" ]; then
		sed "s#$dir/manifests/##" "$dir/log" >&2
		exit 1
	fi
	echo "Kubernetes $version: $count objects are right"
done
