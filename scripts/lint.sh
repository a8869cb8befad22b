#!/usr/bin/env bash
# Formatting, vet, and go.mod as `go mod tidy` would write it.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'not gofmt-ed:\n%s\n' "$unformatted" >&2
	exit 1
fi
go vet ./...
go mod tidy -diff
