#!/usr/bin/env bash
# Formatting, vet, staticcheck, and go.mod as `go mod tidy` would write it. What
# staticcheck needs is in a module of its own, tools/go.mod, which nothing else uses.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'not gofmt-ed:\n%s\n' "$unformatted" >&2
	exit 1
fi
go vet ./...
go vet -tags man ./internal/cli
go tool -modfile=tools/go.mod staticcheck ./...
go mod tidy -diff
go -C tools mod tidy -diff
go -C tools/nfpm mod tidy -diff
