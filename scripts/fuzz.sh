#!/usr/bin/env bash
# Runs every fuzz target for the time given as the first argument, one after the
# other: the fuzzer uses all cores by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: scripts/fuzz.sh TIME, for example 30s}

# Before Go 1.27 the fuzzer may take the end of its own time for a failure
# (go.dev/issue/75804): it names no input then, and this error alone.
ended() {
	! grep -qE 'Failing input|panic|hung or terminated' <<<"$1" &&
		[ "$(grep -A2 '^--- FAIL' <<<"$1" | sed -n '2,3p')" = $'    context deadline exceeded\nFAIL' ]
}

# Built once, with what the fuzzer counts by; go test links it again for each target.
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
failed=0
for pkg in ./fuzz; do
	go test -c -fuzz . -o "$built/fuzz.test" "$pkg"
	known=$(go env GOCACHE)/fuzz/$(go list "$pkg") # where go test keeps what it has found
	cd "$pkg"
	for t in $("$built/fuzz.test" -test.list '^Fuzz'); do
		printf 'fuzz %s for %s: ' "$t" "$time"
		if out=$("$built/fuzz.test" -test.run '^$' -test.fuzz "^$t\$" -test.fuzztime "$time" -test.fuzzminimizetime 1s -test.fuzzcachedir "$known" 2>&1) || ended "$out"; then
			printf 'ok, %s\n' "$(grep -o 'execs: [0-9]*' <<<"$out" | tail -1)"
		else
			printf 'FAILED\n%s\n' "$out"
			failed=1
		fi
	done
	cd - >/dev/null
done
exit $failed
