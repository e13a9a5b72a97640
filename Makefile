# Every target sets itself up in .venv and reuses it; all they need is make and Python 3.11 or newer with venv.

PYTHON ?= python3#  what makes .venv; `make clean` before changing it
PYTHON_LATEST ?= python3.13# what makes .venv-latest
WORKERS ?= 2#       pytest processes: XLA compiles on one core at a time
ARGS ?=#            more arguments for pytest or the demo

BIN := .venv/bin
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder#  a worker a file, and the laws, which are long, first
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check#  errors alone

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-floor test-latest check bench experiments clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: .venv/core ## search 256 networks for handwritten digits, and print the best
	@$(BIN)/vtune demo $(ARGS)

test: .venv/test ## run the tests, all but the long ones: make test ARGS="-k ladder", WORKERS=2
	$(BIN)/python -m pytest $(SPREAD) -m "not long" $(ARGS)

test-long: .venv/test ## run those that take long: laws in full, benchmarks and experiments in small
	$(BIN)/python -m pytest $(SPREAD) -m long $(ARGS)

test-floor: .venv-floor/ready ## the tests with the oldest packages that pyproject.toml allows, as Colab may have them
	.venv-floor/bin/python -m pytest $(SPREAD) $(ARGS)

test-latest: .venv-latest/ready ## the tests with a new Python and the newest packages
	.venv-latest/bin/python -m pytest $(SPREAD) $(ARGS)

check: .venv/check ## format, lint, types, import layers, sizes and names
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet tests/test_house.py

bench: .venv/core ## run every benchmark, one after the other; tables and numbers are written to build/benchmarks
	@mkdir -p build/benchmarks
	@set -e; for file in $(sort $(wildcard benchmarks/*.py)); do \
		echo "== $$file"; into=build/benchmarks/$$(basename "$$file" .py); numbers=; rm -f $$into.failed; \
		if grep -q '"--json"' "$$file"; then numbers="--json $$into.json"; fi; \
		{ $(BIN)/python "$$file" $$numbers || touch $$into.failed; } | tee "$$into.md"; \
		if [ -e $$into.failed ]; then rm $$into.failed; exit 1; fi; done

experiments: .venv/core ## measure what the deep-learning course says of tuning: four tables, 1 to 3 minutes each
	@set -e; for file in $(sort $(wildcard experiments/*.py)); do echo "== $$file"; $(BIN)/python "$$file"; done

clean: ## remove .venv and all that the tools left behind
	rm -rf .venv .venv-floor .venv-latest .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The set-up. Each stamp waits for the one before it, so that `make -j` never runs two pips in one .venv.

$(BIN)/python:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'vtune needs Python 3.11 or newer with its venv module, and $(PYTHON) here is:'; \
		$(PYTHON) --version || true; \
		echo 'Install one (Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=python3.12 $(MAKECMDGOALS)'; \
		exit 1; } >&2
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

.venv/core: pyproject.toml $(BIN)/python
	@echo 'Installing vtune in .venv: a few minutes the first time'
	@$(PIP) --editable .
	@touch $@

.venv/test: .venv/core
.venv/check: .venv/test # pyright reads what the tests import
.venv/test .venv/check: .venv/%:
	@echo 'Installing what `make $*` needs'
	@$(PIP) --editable '.[$*]'
	@touch $@

.venv-floor/ready: INTERPRETER = $(PYTHON)
.venv-floor/ready: PINS = .ci/floor.py
.venv-latest/ready: INTERPRETER = $(PYTHON_LATEST)
.venv-latest/ready: PINS = -c ''
.venv-floor/ready .venv-latest/ready: .venv-%/ready: pyproject.toml
	@$(INTERPRETER) -m venv --clear .venv-$* || { rm -rf .venv-$*; \
		echo 'make test-$* needs $(INTERPRETER); install it, or name another: make test-$* PYTHON_LATEST=python3.14' >&2; \
		exit 1; }
	@echo 'Installing what `make test-$*` needs in .venv-$*'
	@.venv-$*/bin/python $(PINS) > .venv-$*/pins.txt
	@.venv-$*/bin/python -m pip install -qq --disable-pip-version-check -c .venv-$*/pins.txt --editable '.[test]'
	@touch $@
