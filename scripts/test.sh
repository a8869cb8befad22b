#!/usr/bin/env bash
# The whole test suite: what it needs, lint, unit and end-to-end tests with the
# race detector, a smoke run of every fuzz target. Says what was skipped and why.
# As root in CI nothing may be skipped. What fails ends nothing: all is run, and what failed is
# said at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s (%d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }
failed=()
try() { "$@" || failed+=("$*"); }

step "what the tests need"
bash scripts/install-test-deps.sh

step "an API server for the tests of sluice-kube, and helm for those of its chart"
bash scripts/build-helm.sh & # each of them leaves a processor idle at times
helm=$!
bash scripts/build-kube-apiserver.sh
wait $helm

step "a Debian for the tests of the packages"
bash scripts/make-debian-base.sh

step "lint"
try bash scripts/lint.sh

step "tests, with the race detector"
log=$(mktemp)
beside=$(mktemp)
trap 'rm -f "$log" "$beside"' EXIT
# Packages one after the other: with 2 cores, what an end-to-end test measures
# must not be what another package's test uses up.
# Allocation budgets come below, and so does what explores a space whole, or judges decisions by the
# thousand: with the race detector that takes ten times as long, and there is one goroutine.
most() { go list ./... | grep -v /e2e/kube$ | xargs go test -race -p 1 -vet=off -timeout 20m -skip 'Alloc|Exhaustive|Judged' -v >"$log" 2>&1; }
failover() { go test -race -vet=off -timeout 20m -v ./e2e/kube >>"$log" 2>&1; }
exhaustive() { go test -count=1 -v -run Exhaustive ./internal/hold | grep -E 'states|^ok|FAIL'; }
judged() { go test -count=1 -v -run Judged ./acl/audit | grep -E '^(---|ok|FAIL| +[a-z0-9_]+\.go)'; }
try most

step "failover with an API server, which waits most of the time; what only computes goes on beside it, at the lowest priority: all that can happen around who holds an address, and what is said of lists of rules, judged by brute force and by z3"
(
	renice -n 19 -p $BASHPID >/dev/null
	failed=()
	try exhaustive
	try judged
	[ ${#failed[@]} -eq 0 ]
) >"$beside" 2>&1 &
computed=$!
try failover
grep -E '^(ok|FAIL|panic|---? FAIL)|no test files|^\?' "$log" || true
wait $computed || failed+=("what computes beside it")
cat "$beside"

step "the data path with one processor, where whoever accepts a client serves it"
try go test -race -cpu 1 -skip 'Alloc' ./proxy ./proxy/tcp ./proxy/tunnel

step "a byte-checked random load, on one processor and on two"
SLUICE_DRILL="${DRILL:-60s}" try go test -race -cpu 1,2 -count=1 -run Drill ./e2e/drill

step "allocation budgets, without the race detector, which allocates by itself"
try go test -count=1 -run Alloc ./acl ./acl/request ./internal/directory ./metrics ./proxy ./proxy/auth ./proxy/http1 ./proxy/resolve ./proxy/tlshello ./proxy/tunnel

step "fuzz smoke"
try bash scripts/fuzz.sh "${FUZZSMOKE:-3s}"

step "summary"
passed=$(grep -cE '^ *--- PASS' "$log" || true)
# A seed that is too short to make a case of is no test that was skipped.
skipped=$(grep -E '^ *--- SKIP' "$log" | grep -cv 'SKIP: Fuzz[A-Za-z]*/seed#' || true)
if [ "$skipped" -gt 0 ]; then
	echo "skipped, and why:"
	grep -E -B3 -A1 '^ *--- SKIP' "$log" | grep -v 'Fuzz[A-Za-z]*/seed#\|^--$\|=== '
	if [ "${CI:-}" = true ] && [ "$(id -u)" -eq 0 ]; then
		failed+=("nothing may be skipped as root in CI")
	fi
fi
if [ ${#failed[@]} -gt 0 ]; then
	echo "what failed:"
	printf '  %s\n' "${failed[@]}"
	awk -f scripts/failed.awk "$log" | tail -n 400
	exit 1
fi
echo "$passed passed, 0 failed, $skipped skipped"
