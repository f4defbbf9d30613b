# Two targets do everything on a fresh Debian machine: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
BIN := .venv/bin
PYTEST := $(BIN)/pytest -q --durations=5

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

# -- the Python environment ---------------------------------------------------

.venv/.stamp: pyproject.toml requirements/dev.txt requirements/build.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Headgate needs Python 3.11 or newer; python3 is $$(python3 -V)"; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv; }
	@echo "installing the pinned Python packages into .venv"
	@python3 -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt -r requirements/build.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: .venv/.stamp ## make the Python environment in .venv

.PHONY: lock
lock: venv ## resolve the dependencies again and write the hashed requirement files
	e2e/lock

# -- the main job ---------------------------------------------------------------

.PHONY: demo
demo: venv ## the main job on a local cluster: from kubectl apply to a streamed answer
	@$(BIN)/python -m e2e.demo

.PHONY: test
test: venv ## everything that CI runs, with the time of each suite
	@$(BIN)/python -m e2e.suites

# -- seconds --------------------------------------------------------------------

.PHONY: fmt
fmt: venv ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: lint
lint: venv ## style, types and who may import whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: generate
generate: venv ## write crds/, the chart's copy of it and docs/reference from api/
	$(BIN)/python -m headgate_api.generate

.PHONY: verify
verify: venv ## fail where a generated file is stale
	$(BIN)/python -m headgate_api.generate --check

.PHONY: unit
unit: venv ## tests that need nothing but Python
	$(PYTEST) -m 'not (apiserver or triton or cluster or valkey or compiled)'

.PHONY: chart
chart: venv ## render and check the Helm chart
	$(PYTEST) tests/charts

.PHONY: check
check: lint verify unit ## lint, verify and unit: what to run before a commit

# -- minutes: against real servers ----------------------------------------------

.PHONY: compiled
compiled: venv ## the gateway's and the policy's unit tests once more, in the form that images have
	@$(BIN)/python -m e2e.compiled

.PHONY: binaries
binaries: venv ## build Kubernetes and CoreDNS from Go modules, once, into the cache
	$(BIN)/headgate cluster binaries

.PHONY: images
images: venv ## build the operator's, the gateway's and the simulator's image
	$(BIN)/headgate cluster images

.PHONY: real
real: venv ## tests against a real kube-apiserver, a real Triton and a real Valkey or Redis
	$(BIN)/headgate cluster binaries
	$(PYTEST) -m 'apiserver or triton or valkey'

.PHONY: e2e
e2e: venv ## tests on a whole local cluster
	$(PYTEST) -m cluster tests/cluster e2e

.PHONY: bench-control
bench-control: venv ## the control plane: convergence, writes at rest, memory, apply to gateway, stalls
	$(BIN)/headgate cluster binaries
	@$(BIN)/python -m bench.control

.PHONY: bench-aiperf
bench-aiperf: venv ## NVIDIA's AIPerf as a client of the gateway: that it finds no fault
	@$(BIN)/python -m bench.aiperf

.PHONY: bench-gateway
bench-gateway: venv ## the gateway on one core, beside nginx and HAProxy: CPU, latency, streams, memory
	@$(BIN)/python -m bench.gateway_load

.PHONY: bench-routing
bench-routing: venv ## rules, segments and first sentences: what they cost, beside the gateway without them
	@$(BIN)/python -m bench.routing

.PHONY: soak-overload
soak-overload: venv ## minutes of overload on every pod: nothing may restart
	HEADGATE_OVERLOAD_WAVES=12 $(PYTEST) -m cluster e2e -k overload

.PHONY: soak-fuzz
soak-fuzz: venv ## minutes of odd bytes for the gateway's parsers; HEADGATE_FUZZ_SECONDS for each property
	HEADGATE_FUZZ_SECONDS=$${HEADGATE_FUZZ_SECONDS:-60} $(PYTEST) -o faulthandler_timeout=0 tests/gateway/test_fuzz_*.py

.PHONY: clean
clean: ## take the local cluster down, remove .venv and caches of the tools
	@if [ -x $(BIN)/headgate ]; then $(BIN)/headgate cluster down; fi
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
