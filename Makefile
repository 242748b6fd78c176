# Every target sets up what it needs; a second run starts at once.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= affetto-demo
BIN    := $(VENV)/bin
RUN    := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help venv install demo test lint types layers spelling audit ci clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "affetto needs Python 3.11 or newer; '$(PYTHON)' is not: try 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# One stamp for users and one for developers: `make demo` installs no test tools.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "installing affetto and its dependencies into $(VENV): a few minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.developing: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "installing affetto with its development tools into $(VENV): a few minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,usd,tts,provenance,studio,mcp]'
	@touch $@ $(VENV)/.installed

venv: $(VENV)/.developing  ## make the virtual environment with everything developers need
install: $(VENV)/.installed  ## install affetto for use

demo: $(VENV)/.installed  ## make a talking face in ./affetto-demo
	$(BIN)/affetto demo -o $(OUT) --overwrite

test: $(VENV)/.developing  ## run the tests on two processes
	$(RUN) $(BIN)/python -m pytest -n 2 --dist worksteal -q $(ARGS)

lint: $(VENV)/.developing  ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.developing  ## static types
	$(BIN)/basedpyright --pythonpath $(BIN)/python

layers: $(VENV)/.developing  ## rooms import downward only
	$(BIN)/lint-imports

spelling: $(VENV)/.developing  ## typing errors in words
	$(BIN)/codespell

audit:  ## look every pin up in the database of known holes; needs the network
	@./.ci/audit

ci:  ## everything a change must pass
	./.ci/run

clean:  ## remove caches and what the demo made; keeps the virtual environment
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build $(OUT)
	find affetto tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
