# The commands of this repository. Each makes and uses .venv, installs what it needs, and works from a clean clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Large pages for the allocator: 1.1-1.4 x on two cores, as tensors of some megabytes come and go at every step.
# The two thresholds keep freed memory in the process, so that the pages stay large.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184
# OMP_WAIT_POLICY: the second thread waits awake between the many small operations of a step (1.05-1.1 x, two idle cores).
# One thread for each of two test processes; what the default run leaves out is in pyproject.toml.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: help demo test test-slow test-all check fmt bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/.ready-demo  ## build and train a small LLaVA in stages, prove that it sees, answer about pictures (under 15 minutes, two cores)
	rm -rf runs/demo
	OMP_WAIT_POLICY=ACTIVE $(BIN)/eyespot train demo out=runs/demo
	@echo "Report: runs/demo/report.html     Model: runs/demo/model     Ask it: $(BIN)/eyespot chat runs/demo/model"

test: $(VENV)/.ready-dev  ## the default tests (under four minutes)
	$(PYTEST)

test-slow: $(VENV)/.ready-parity  ## what test-all adds: slow tests and parity with transformers
	$(PYTEST) -m "(slow or parity) and not gpu and not network"

test-all: test test-slow  ## every test that needs neither an accelerator nor the internet

check: $(VENV)/.ready-dev  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

fmt: $(VENV)/.ready-dev  ## format, mend what can be mended, write the pages that are made from code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python tests/structure/pages.py

bench: $(VENV)/.ready-parity  ## speed, on an idle machine
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:  ## remove the environment, caches and runs
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of extras: a second call is instant, and a change of the requirements installs again.
$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[worlds,photos]'
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.ready-parity: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev,parity]'
	@touch $@
