# `make` or `make help` lists the commands. Each sets up just what it needs, and only once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The Python that .venv is made from: 3.11 or newer.
PYTHON ?= python3
# KEEP=1 leaves the demo up when it has been shown.
KEEP ?=
# BENCH=NAME runs one bench: cold-start, peer-add, drift, memory, cni, idle, metrics. Empty: all.
BENCH ?=
# PYTEST="-k lease -x" is passed on to pytest.
PYTEST ?=

SETUP := $(PYTHON) scripts/setup.py --profile
BIN := .venv/bin
# Type checkers refuse folders without modules.
CODE := subnet backends flanneld_py tests scripts $(if $(wildcard bench/*.py),bench)
FAST_TESTS := $(wildcard tests/unit tests/property)
ALL_TESTS := $(FAST_TESTS) $(wildcard tests/contract tests/netns tests/e2e tests/packaging)

.PHONY: help setup demo check static test bench clean

help:  ## list the commands
	@echo 'make COMMAND, where COMMAND is one of'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '%-9s %s\n' "$$name" "$$text"; done

setup:  ## make .venv with all that the tests need: Python packages, flanneld-py, tools
	@$(SETUP) test

demo:  ## show three nodes with pods, and how the agent heals them (KEEP=1 leaves them up)
	@$(SETUP) demo
	@$(BIN)/flanneld-py demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

check: static  ## format, lint, types, direction of imports, unit and property tests
	$(BIN)/python -m pytest $(FAST_TESTS) $(PYTEST)

static: setup  ## the part of check that runs no test
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo

test: static  ## everything: check, then contract, netns, e2e and packaging tests
	scripts/isolated $(BIN)/python -m pytest $(ALL_TESTS) $(PYTEST)

bench:  ## measure against yardsticks in the same run (BENCH=cold-start for one of them)
	@$(SETUP) bench
	scripts/isolated $(BIN)/python -m bench $(BENCH)

clean:  ## remove what was built in this checkout (not the shared cache of downloads)
	rm -rf .venv .venv.lock build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
