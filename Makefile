# Everything a fresh machine needs is Python 3.11-3.13 and make; the environment is made once, in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

DATA ?= auto
DATASET ?= all
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

POOL ?= cpu
BENCH ?=
ONLY ?=
FAULTS ?=
COMPILE := --universal --python-version 3.11 --extra dev --extra s3 --extra postgres --generate-hashes --no-emit-index-url --no-header
# A host with an NVIDIA driver gets TensorFlow's CUDA libraries, from a lock that differs in these alone.
LOCK := $(if $(shell command -v nvidia-smi),requirements-gpu.lock,requirements.lock)

.PHONY: help run up down worker test test-slow test-all test-hosts test-faults coverage servicetest bench check docs format lock clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

run: $(READY) ## Set up once, then retrain both models: make run, make run DATA=sample
	@$(BIN)/retrain run $(DATASET) --data $(DATA)

test: $(READY) ## Set up once, then run the tests that a change waits for: a worker a core, half an hour at most on two
	@$(BIN)/python -m pytest -n auto -m "not service and not ui and not slow and not hosts" --durations=25

test-slow: $(READY) ## Run the long tests: the tutorials, every variant, killed runs, old stores
	@$(BIN)/python -m pytest -n auto -m "slow and not service and not ui and not hosts" --durations=25

test-all: $(READY) ## Run every test, kind after kind, and go on after a failure: an hour and more
	@failed=""; for kind in test servicetest test-slow; do $(MAKE) --no-print-directory $$kind || failed="$$failed $$kind"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

test-hosts: $(READY) ## As root: several hosts in network namespaces, every fault of theirs, 200 waiting runs; prints tables
	@RETRAIN_TEST_HOSTS=all $(BIN)/python -m pytest -q -m hosts -k "not cut_off_for_ever"
	@$(BIN)/python tests/hosts/faults.py
	@$(BIN)/python tests/hosts/load.py

test-faults: $(READY) ## Count the faults that are survived: make test-faults FAULTS="--only plausible --seeds 10"
	@PYTHONPATH=tests:tests/unit $(BIN)/python -m planted $(FAULTS)

coverage: $(READY) ## Tell the share of lines and branches that the tests of units and contracts reach
	@$(BIN)/python -m coverage run -m pytest -n auto -q -m "not slow" tests/unit tests/contracts
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

servicetest: $(READY) ## Test the service with real workers, in a real browser and on hosts: make servicetest ONLY="and not slow"
	@$(BIN)/python -m pytest -n 2 -m "(service or ui or hosts) $(ONLY)" --durations=25

bench: $(READY) ## Measure on a quiet machine, beside what else could be used: make bench, make bench BENCH="--quick"
	@$(BIN)/python -m benchmarks $(BENCH)

up: $(READY) ## Start the service: Prefect and its UI, MLflow, reports, workers
	@$(BIN)/retrain up

down: $(READY) ## End the service; it loses nothing
	@$(BIN)/retrain down

worker: $(READY) ## Serve one pool of another host: make worker POOL=gpu, with PREFECT_API_URL and RETRAIN_HOME set
	@$(BIN)/retrain worker $(POOL)

check: $(READY) ## Format, lint, types, import laws, documents, and known vulnerabilities of the locked packages
	@echo "== format"; $(BIN)/ruff format --check .
	@echo "== lint"; $(BIN)/ruff check .
	@echo "== types"; $(BIN)/mypy
	@echo "== import laws"; $(BIN)/lint-imports
	@echo "== documents"; NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "== known vulnerabilities"; .ci/audit $(BIN)/python

docs: $(READY) ## Build the documents as a site with a search, and say where it is
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "open $(CURDIR)/site/index.html"

format: $(READY) ## Format the code and sort its imports
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: ## Renew requirements.lock from pyproject.toml
	@$(PYTHON) -m venv .lock && .lock/bin/pip install --quiet uv
	@.lock/bin/uv pip compile --quiet $(COMPILE) --upgrade --output-file .lock/cpu pyproject.toml
	@.lock/bin/uv pip compile --quiet $(COMPILE) --extra gpu --constraint .lock/cpu --output-file .lock/gpu pyproject.toml
	@for kind in cpu gpu; do { echo "# Made by \`make lock\` from pyproject.toml: every file with its hashes, and no index address."; cat .lock/$$kind; } > .lock/$$kind.lock; done
	@.lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --output-file .lock/audit .ci/audit.in
	@{ echo "# Made by \`make lock\` from .ci/audit.in: every file with its hashes, and no index address."; cat .lock/audit; } > requirements-audit.lock
	@mv .lock/cpu.lock requirements.lock; mv .lock/gpu.lock requirements-gpu.lock
	@rm -rf .lock; echo "requirements.lock is new: run make test"

clean: ## Remove the environment and every cache; the store stays
	@rm -rf $(VENV) .audit .bench .lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* .import_linter_cache build dist site *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(LOCK) pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "retrain needs Python 3.11, 3.12 or 3.13: install one, or name it: make PYTHON=/path/to/python" >&2; exit 2; fi
	@echo "[1/3] making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "this Python has no venv: install it (Debian: apt install python3-venv)" >&2; rm -rf $(VENV); exit 2; }
	@echo "[2/3] installing $$(grep -c '^[a-z0-9].*==' $(LOCK)) locked packages, hashes checked (2 to 4 minutes, once)"
	@$(PYTHON) .ci/install $(BIN)/python $(LOCK)
	@echo "[3/3] installing retrain itself"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)
