# Everything runs in a virtual environment in .venv, made at the first use and again when
# pyproject.toml changes. Needs Python 3.11+, g++, make and perl.
#
#   make demo       build the shipped model, simulate it, print the text it generates
#   make test       the test suite           (HF=1: also compare with Hugging Face; installs PyTorch)
#   make test-slow  the tests that take minutes each
#   make lint       format, lint, types, who may import whom
#   make format     what can be repaired of that
#   make bench      the benchmarks, with the ideal beside each figure (BENCH=name: one of them)
#   make clean      remove build/; make distclean: .venv too

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
PROMPT ?= In the beginning
TOKENS ?= 64
BENCH  ?= $(basename $(notdir $(wildcard benchmarks/[a-z]*.py)))

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# CI compares with Hugging Face; elsewhere that download is asked for with HF=1.
ifneq ($(filter true 1 yes,$(CI) $(HF)),)
TESTED := $(VENV)/.has-dev $(VENV)/.has-hf
else
TESTED := $(VENV)/.has-dev
endif

# Each test process has its own numbers to crunch: threads of BLAS would only fight for the cores.
test test-slow: export OPENBLAS_NUM_THREADS = 1

.PHONY: demo test test-slow lint format bench clean distclean
.DELETE_ON_ERROR:

demo: $(VENV)/.has-hwgen
	$(BIN)/hwgen build tiny-gpt2 --target sim-small -o build/tiny
	$(BIN)/hwgen sim build/tiny --prompt "$(PROMPT)" --tokens $(TOKENS)

test: $(TESTED)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not vendor" $(ARGS)

test-slow: $(TESTED)
	$(BIN)/python -m pytest -m "slow and not vendor" $(ARGS)

lint: $(VENV)/.has-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.has-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.has-hwgen
	@for name in $(BENCH); do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

clean:
	rm -rf build

distclean: clean
	rm -rf $(VENV)

# One stamp for each set of packages.
$(VENV)/.has-pip: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.has-hwgen: $(VENV)/.has-pip
	$(PIP) install --editable '.[asic]'
	@touch $@

$(VENV)/.has-dev: $(VENV)/.has-hwgen
	$(PIP) install --group dev
	@touch $@

$(VENV)/.has-hf: $(VENV)/.has-dev
	$(PIP) install --group hf
	@touch $@
