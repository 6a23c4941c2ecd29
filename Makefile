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

.PHONY: help run test check format lock clean

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(READY) ## Set up once, then retrain both models: make run, make run DATA=sample
	@$(BIN)/retrain run $(DATASET) --data $(DATA)

test: $(READY) ## Set up once, then run the tests
	@$(BIN)/python -m pytest

check: $(READY) ## Format, lint, types and import laws
	@echo "== format"; $(BIN)/ruff format --check .
	@echo "== lint"; $(BIN)/ruff check .
	@echo "== types"; $(BIN)/mypy
	@echo "== import laws"; $(BIN)/lint-imports

format: $(READY) ## Format the code and sort its imports
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: ## Renew requirements.lock from pyproject.toml
	@$(PYTHON) -m venv .lock && .lock/bin/pip install --quiet uv
	@.lock/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
	  --no-header --upgrade --output-file .lock/requirements pyproject.toml
	@{ echo "# Made by \`make lock\` from pyproject.toml: every file with its hashes, and no index address."; cat .lock/requirements; } > requirements.lock
	@rm -rf .lock; echo "requirements.lock is new: run make test"

clean: ## Remove the environment and every cache; the store stays
	@rm -rf $(VENV) .lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Hashes are checked for every file. --no-deps, because the lock is complete, and because pip 23 takes a pin without its
# extra (sqlalchemy for sqlalchemy[asyncio]) for none.
$(READY): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "retrain needs Python 3.11, 3.12 or 3.13: install one, or name it: make PYTHON=/path/to/python" >&2; exit 2; fi
	@echo "[1/3] making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "this Python has no venv: install it (Debian: apt install python3-venv)" >&2; rm -rf $(VENV); exit 2; }
	@echo "[2/3] installing $$(grep -c '^[a-z0-9].*==' requirements.lock) locked packages, hashes checked (about 2 minutes, once)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements.lock
	@echo "[3/3] installing retrain itself"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)
