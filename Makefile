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
