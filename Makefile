# Every target makes what it needs from a clean clone: an environment in .venv, with pinned versions (constraints.txt).
# Stamps inside .venv remember what is installed; a target installs again only when pyproject.toml or constraints.txt
# has changed.
#
#   PYTHON       the interpreter that makes the environment (3.11 or newer)      make test PYTHON=python3.12
#   PIP_ARGS     more arguments to pip install, e.g. an index with small CPU builds of torch:
#                make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   PYTEST_ARGS  more arguments to pytest                                        make test PYTEST_ARGS="-k fusion -x"
#   WORKERS      how many processes run the tests; by default one for each processor, at most 8
#   BENCH_ARGS   more arguments to the benchmarks

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= logical
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install -qq -c constraints.txt $(PIP_ARGS)
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint docs bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.stamp-run  ## Show the whole product on the embedded model, offline once installed
	@$(BIN)/dpfusion demo

test: $(VENV)/.stamp-dev  ## Run all tests, doctests included
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=loadfile $(PYTEST_ARGS)

lint: $(VENV)/.stamp-dev  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.stamp-dev  ## Build the documentation in build/site; every link is checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(VENV)/.stamp-dev  ## Run the benchmarks
	@PYTHONPATH=training $(BIN)/python tests/benchmarks/run.py $(BENCH_ARGS)

clean:  ## Remove the environment, builds and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# An environment that is already there is kept if its Python is new enough; one that was left half made is repaired.
$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found; name a Python >= 3.11: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) $(NEW_ENOUGH) || { echo "dpfusion needs Python >= 3.11, but $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@if [ ! -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "Making an environment in $(VENV) with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv $(VENV); \
	fi
	@$(BIN)/python $(NEW_ENOUGH) || { echo "The environment in $(VENV) has an older Python than 3.11; remove it with: make clean" >&2; exit 1; }
	@touch $@

$(VENV)/.stamp-run: pyproject.toml constraints.txt | $(VENV)/.stamp-venv
	@echo "Installing dpfusion and what it needs to run (the first time takes a minute or two)"
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "Installing the tools for tests and checks"
	@$(PIP_INSTALL) -e ".[dev]"
	@touch $@
