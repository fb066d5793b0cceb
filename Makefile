# What developers and CI run. Go, make and a shell are enough: the rest is found or installed.

LINT_VERSION := v2.15.0
LINT := .bin/golangci-lint-$(LINT_VERSION)

# TESTFLAGS and PACKAGES narrow a run: make test PACKAGES=./worker TESTFLAGS='-run Drain -v'
PACKAGES := ./...
TESTFLAGS :=
BENCHFLAGS :=

.PHONY: help
help: ## list what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build ## watch events fan out and be shared, with a worker killed in the middle
	@scripts/with-broker demo bin/evdemo demo

.PHONY: test
test: build ## run every test, with the race detector and a real RabbitMQ
	@scripts/with-broker test scripts/go-test -timeout 15m $(TESTFLAGS) $(PACKAGES)

.PHONY: bench
bench: build ## measure evdemo beside the bare client library; BENCHFLAGS='-rounds 3' and so on
	@scripts/with-broker bench go run ./internal/bench $(BENCHFLAGS)

.PHONY: scenarios
scenarios: build ## play all scenarios and write docs/scenarios.md
	@scripts/with-broker test bin/evdemo demo all -o markdown > docs/scenarios.md.new || { rm -f docs/scenarios.md.new; exit 1; }
	@mv docs/scenarios.md.new docs/scenarios.md

.PHONY: check
check: $(LINT) ## check formatting, vet, lint, and that go.mod is tidy
	$(LINT) fmt --diff
	go vet ./...
	$(LINT) run
	go mod tidy -diff

.PHONY: fmt
fmt: $(LINT) ## format the code
	$(LINT) fmt

# VERSION is what "evdemo version" prints; without it, what Go knows from the repository.
.PHONY: build
build: ## build bin/evdemo
	@go build $(if $(VERSION),-ldflags '-X github.com/evdemo/evdemo/cmd.version=$(VERSION)') -o bin/evdemo .

.PHONY: clean
clean: ## delete what was built
	rm -rf bin .bin

$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), once: this takes some minutes" >&2
	GOBIN="$(CURDIR)/.bin" CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv .bin/golangci-lint $@
