# Sluice. `make` lists the targets.
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME  ?= 5m
DRILLTIME ?= 10m
COUNT     ?= 6
BIN       := bin/sluice

.PHONY: help build image run demo test lint fuzz drill failover-times bench microbench profile validate-deploy clean release prove speed flood

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sluice, bin/sluice-netsetup and bin/sluice-kube
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -funcalign=16 -X github.com/sluiceproxy/sluice/internal/built.version=$(VERSION)' -o bin/ ./cmd/sluice ./cmd/sluice-netsetup ./cmd/sluice-kube

image: ## write bin/sluice-image.tar, the container image for amd64 and arm64; no container engine needed
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} $(GO) run ./deploy/image -o bin/sluice-image.tar -version $(VERSION)

release: ## write dist/ with the programs, packages, image, SBOMs and checksums of VERSION (v0.2.0), of the commit that is checked out
	CGO_ENABLED=0 $(GO) run -trimpath ./deploy/release -version "$(VERSION)" -o dist

run: build ## build and run the proxy on :8080, with the example rules unless EGRESS_HTTP_PROXY_DESTINATION is set
	@if [ -n "$$EGRESS_HTTP_PROXY_DESTINATION" ]; then exec $(BIN) proxy; else exec $(BIN) proxy --rules deploy/rules.txt; fi

demo: build ## (root) a client, the gateway and two servers in network namespaces, with real curl calls
	bash deploy/demo.sh

test: ## install what the tests need and run all of them
	bash scripts/test.sh

lint: ## formatting, vet, staticcheck, tidiness of go.mod
	bash scripts/lint.sh

fuzz: ## run every fuzz target for FUZZTIME (5m)
	bash scripts/fuzz.sh $(FUZZTIME)

drill: ## byte-checked random load on the front doors for DRILLTIME (10m), on one processor and on two, SEED=n draws the plans of that run again; all that can happen around who holds an address, and with the real programs 1,000 random schedules of it, a kill and a freeze at each step, an API server that is away for a minute, and 9,000 connections of which a reload ends a third, with a reload a second for ten minutes then
	SLUICE_DRILL=$(DRILLTIME) $(GO) test -race -cpu 1,2 -count 1 -timeout 24h -v -run Drill ./e2e/drill $(if $(SEED),-seed $(SEED))
	$(GO) test -count 1 -timeout 24h -v -run RevocationAtLarge ./e2e/http -open 9000 -reloading 10m
	$(GO) test -count 1 -timeout 24h -v -run Exhaustive ./internal/hold -large -space 1h
	$(GO) test -race -count 1 -timeout 24h -v -run 'Schedules|AtEachStep|APIServerAway|Load' ./e2e/kube -schedules 1000 -every 1 -minute -clients 1000 $(if $(SEED),-seed $(SEED))

failover-times: ## (root) measure for how long a client is without service when the address changes hands, and write the tables of docs/failover.md; nothing else should run meanwhile
	$(GO) test -count 1 -timeout 30m -v -run 'TakeOver|APIServer(Away|Restarts)|Lease(TamperedWith|Times)|RollingUpdate|StubbornGateway|Clocks|Load' ./e2e/kube -strict -update -minute -clients 1000

flood: ## (root) what a flood of TLS handshakes, begun or whole, does to other clients' times, and one of tunnels; nothing else should run meanwhile
	$(GO) test -count 1 -timeout 30m -v -run HandshakeFlood ./e2e/http -flood 32s

prove: ## what acl/audit decides, judged by brute force on 5,000 random pairs of lists, by z3 on 10,000, and by a running proxy on 180
	bash scripts/install-test-deps.sh
	$(GO) test -count 1 -timeout 24h -v -run 'JudgedByBrute|JudgedByRef' ./acl/audit -rapid.checks=5000
	$(GO) test -count 1 -timeout 24h -v -run JudgedByZ3 ./acl/audit -smt 10000
	$(GO) test -count 1 -timeout 24h -v -run AskedOfARunningProxy ./e2e/http -pairs 60

speed: build ## (root) measure lint, diff and load on lists of 1,000 to 1,000,000 rules, and what shadow rules cost row 1 of the benchmark, and write the tables of docs/policy.md; nothing else should run meanwhile
	$(GO) test -count 1 -timeout 1h -v -run SpeedTable ./acl/audit -speed 1000,10000,100000,1000000 -strict -update
	$(GO) run ./internal/bench -nice -10 -peers none -rows 17 -policy docs/policy.md $(BENCHFLAGS)

bench: build ## (root) measure Sluice beside squid, haproxy and others, and write docs/performance.md; ROW=4 measures one row and prints it
	bash scripts/install-bench-deps.sh
	$(GO) run ./internal/bench -nice -10 $(if $(ROW),-rows $(ROW),-out docs/performance.md) $(BENCHFLAGS)

microbench: ## benchmarks of the rule engine, the parsers and the tunnels, COUNT (6) times: input for benchstat
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) ./acl ./proxy/http1 ./proxy/resolve ./proxy/tunnel

profile: ## (root) leave profiles of Sluice at the work of ROW (1) in bin/profile, for go tool pprof
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/profile/sluice ./cmd/sluice
	$(GO) run ./internal/bench -sluice bin/profile/sluice -profile bin/profile -rows $(or $(ROW),1)

validate-deploy: ## hold the manifests against the schemas of Kubernetes 1.23 and 1.30; compiles the validator first
	bash deploy/validate.sh

clean: ## remove what was built
	rm -rf bin dist
