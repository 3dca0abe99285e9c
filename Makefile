# Everything a developer types. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first Python on PATH that is new enough; PYTHON=... overrides.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
STAMP := $(VENV)/.installed
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt
DISTS := libs/common services/proxy services/admin services/cloud-agent
EXTRAS := services/proxy[aws,azure,gcp] services/cloud-agent[kubernetes]
CODE := $(DISTS:%=%/src) tests deploy/local
PYTEST_ARGS ?=
# Where an environment says that no bytecode is to be kept, every process of a test would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE
BENCH_ARGS ?=
KILLS ?= 200
SEED ?= 1

.PHONY: help setup run run-managed test test-all e2e chart images bench chaos lint types contracts check docs golden proto stats clean readme

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# What `make run` needs: the gateway itself, and an etcd.
$(RUN_STAMP): constraints.txt requirements-run.txt $(DISTS:%=%/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found on PATH (set PYTHON=/path/to/python3)"; exit 1; }
	@echo "setup: $(PYTHON) -> $(VENV), what the gateway needs (about half a minute the first time)"
	@# A first run that was interrupted leaves an environment without pip: make that one anew.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) -r requirements-run.txt
	@$(PIP) $(DISTS:%=-e %)
	@touch $@

# What tests and checks need besides: the tools, the real peers of the tests, and what services load on demand.
$(STAMP): $(RUN_STAMP) requirements-dev.txt
	@echo "setup: $(VENV), what tests and checks need (a minute or two more the first time)"
	@$(PIP) -r requirements-dev.txt $(foreach dist,$(EXTRAS),-e '$(dist)')
	@touch $@

setup: $(STAMP) ## create .venv and install everything from constraints.txt

run: $(RUN_STAMP) ## run etcd, the gateway and a demo provider, and print a curl that answers (Ctrl-C stops all)
	@exec $(BIN)/python -m deploy.local

run-managed: $(RUN_STAMP) ## the same, managed from a stand-in for AISIX Cloud, from nothing but a one-time token
	@exec $(BIN)/python -m deploy.local managed

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test: $(STAMP) ## the tests, with real etcd and real processes; `make check` adds the few that take long by themselves
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(STAMP) ## every test
	@$(PYTEST) $(PYTEST_ARGS)

e2e: $(STAMP) ## only the tests that use real processes and the official SDK
	@$(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

chart: $(STAMP) ## the Helm chart: rendered by Helm 4 and 3 for the oldest and newest Kubernetes, and looked at closely
	@$(BIN)/python -m tests.deploy.tools
	@$(PYTEST) tests/deploy/test_chart_*.py tests/deploy/test_reachability.py $(PYTEST_ARGS)

images: $(STAMP) ## build the three images without a registry or an engine, and print their sizes
	@$(BIN)/python -m tests.deploy.image_building

bench: $(STAMP) ## CPU per request and per stream event beside a bare aiohttp relay
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

chaos: $(STAMP) ## kill the parts of a managed gateway under load, KILLS times (200), at the moments of SEED (1)
	@exec $(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)

lint: $(STAMP) ## ruff: format and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy $(CODE)

contracts: $(STAMP) ## who may import whom
	@$(BIN)/lint-imports

readme: $(STAMP) ## the README's commands in a fresh clone
	@$(BIN)/python -m tests.readme

check: lint types contracts test-all readme ## all that CI runs (test-all has what `make chart` runs)

docs: $(STAMP) ## regenerate docs/reference from the code, and the chart's schema and README from its values
	@$(BIN)/python -m aisix_common.settings.reference > docs/reference/configuration.md
	@$(BIN)/python -m tests.house.metrics_reference > docs/reference/metrics.md
	@$(BIN)/python -m pytest -q tests/admin/test_openapi.py --update-golden
	@$(BIN)/python -m tests.deploy.values_schema > deploy/helm/aisix/values.schema.json
	@$(BIN)/python -m tests.deploy.readme > deploy/helm/aisix/README.md

golden: docs ## refresh every golden file from the code; review the diff
	@$(BIN)/python -m pytest -q tests --update-golden $(PYTEST_ARGS)

proto: $(STAMP) ## regenerate the etcd messages from our proto file
	@$(BIN)/python -m grpc_tools.protoc -Ilibs/common/src --python_out=libs/common/src --pyi_out=libs/common/src \
		libs/common/src/aisix_common/store/etcd.proto

stats: $(STAMP) ## the ten largest modules and functions
	@$(BIN)/python -m tests.house.stats

clean: ## remove .venv and caches (not .run, which holds the data of `make run`)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
