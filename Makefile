# Every target installs what it needs itself, or says in one sentence what is missing.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export KUBECONFIG := $(CURDIR)/.cluster/kubeconfig

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.synced ## the development environment (.venv), from requirements-dev.lock
$(VENV)/.synced: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet uv
	$(VENV)/bin/uv pip sync --quiet --require-hashes requirements-dev.lock
	$(VENV)/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

.PHONY: lock
lock: ## resolve the dependencies anew (requirements*.lock)
	for side in operator: worker:tensorflow dev:; do \
	  $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    pyproject.toml --extra $${side%%:*} $$([ -z "$${side##*:}" ] || echo --extra $${side##*:}) \
	    --output-file requirements-$${side%%:*}.lock || exit 1; done

# These measure and break what only the embedded cluster has; other targets take kind where docker and kind are there.
test chaos bench-failover bench-overhead: export UNDERSTUDY_CLUSTER := embedded

.PHONY: say-embedded
say-embedded:
	@echo "This uses the embedded cluster (root on Linux), also where docker and kind are there."

.PHONY: cluster
cluster: venv ## start the local cluster (two worker nodes; kind where docker and kind are there), or find it running
	$(RUN) -m localcluster up

.PHONY: cluster-down
cluster-down: ## end the local cluster, whatever is left of it
	$(PYTHON) -m localcluster down

.PHONY: images
images: venv ## build the images and load them into the local cluster
	$(RUN) -m localcluster images

.PHONY: demo
demo: cluster images ## lose a primary three ways, live, on the local cluster, and say which one that is
	$(RUN) -m demo

.PHONY: bench-failover
bench-failover: say-embedded cluster images ## time the failover for every cause
	$(RUN) -m benchmarks.failover $(ARGS)

.PHONY: bench-overhead
bench-overhead: say-embedded cluster images ## measure what Understudy costs a training that loses nothing
	$(RUN) -m benchmarks.overhead $(ARGS)

.PHONY: bench-decide
bench-decide: venv ## time one decision of the operator by the number of ranks; needs no cluster
	$(RUN) -m benchmarks.decide $(ARGS)

.PHONY: chaos
chaos: say-embedded venv ## break four trainings for 30 minutes on three nodes, then say what was lost (SEED=, MINUTES=)
	$(RUN) -m localcluster up --nodes 3
	$(RUN) -m localcluster images
	$(RUN) -m chaos --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: cases
cases: venv ## stage public complaints on the local cluster, and write what is seen into docs/reference/cases.md
	$(RUN) tests/stages.py cases

.PHONY: test
test: venv ## everything: lint, unit, integration and end-to-end tests on the embedded cluster
	$(RUN) tests/stages.py $(STAGES)

.PHONY: test-unit
test-unit: venv ## lint and the tests that need no cluster (those of the chart need helm: `make cluster` builds it)
	$(RUN) tests/stages.py lint unit simulation

.PHONY: simulate
simulate: venv ## search SEEDS=100000 seeds for schedules that break a promise
	$(RUN) -m tests.simulation.simulate --seeds $(or $(SEEDS),100000) --first $(or $(FIRST),0)

.PHONY: fuzz
fuzz: venv ## fuzz every decoder for MINUTES=10 on the Python of the images
	$(RUN) -m tests.fuzz.image --seconds $$((60 * $(or $(MINUTES),10)))

.PHONY: format
format: venv ## format the code
	$(VENV)/bin/ruff check --fix --quiet . && $(VENV)/bin/ruff format --quiet .

.PHONY: manifests
manifests: cluster ## render manifests/ from the chart
	$(RUN) charts/render.py

.PHONY: docs
docs: venv ## generate docs/reference/api.md and chart-values.md from the resource definition and the chart
	$(RUN) docs/generate.py
