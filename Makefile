# One virtual environment, installed once: `make train` and `make test` do all the set-up they need, and each
# command they run is printed, so that you can go on by hand.
#
#   make PYTHON=python3.12          the interpreter that makes the environment
#   make train ARGS="freeze=4"      further arguments of train.py
#   make test ARGS="-k stages"      further arguments of pytest
#   make bench ARGS="depths"        further arguments of benchmarks/bench.py

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
ROUNDS ?= 200
FIRST ?= 0
SWEEPS ?= 20
RUNS ?= 100
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# One thread a process: the tests' networks are small, and the processes share the cores. One process more than there are
# cores, since a third of their time they wait for the processes that they test.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadscope

.DEFAULT_GOAL := help
.PHONY: help train test test-slow test-postgres test-gpu test-kills test-ddp-stress bench lint types format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

train: $(VENV)/.installed ## set up, then train, test and record one run: ARGS="freeze=4"
	$(BIN)/python train.py $(ARGS)

test: $(VENV)/.installed-dev ## set up, then run the tests but the slow ones: ARGS="-k stages"
	$(PYTEST) $(ARGS)

test-slow: $(VENV)/.installed-dev ## set up, then run the slow tests
	$(PYTEST) -m slow $(ARGS)

test-postgres: $(VENV)/.installed-dev ## set up, then run the tests with PostgreSQL, which has to be installed
	$(PYTEST) -m postgres $(ARGS)

test-gpu: $(VENV)/.installed-dev ## set up, then run the tests that need a GPU
	$(PYTEST) -m gpu $(ARGS)

test-kills: $(VENV)/.installed-dev ## set up, then kill and resume runs and sweeps, and compare their ends: ROUNDS=200 SWEEPS=20 FIRST=0
	OMP_NUM_THREADS=1 KILL_ROUNDS=$(ROUNDS) KILL_SWEEPS=$(SWEEPS) KILL_FIRST=$(FIRST) $(BIN)/python -m pytest -m kills -n 0 -s -q $(ARGS)

test-ddp-stress: $(VENV)/.installed-dev ## set up, then train in two processes with loader workers, many times: RUNS=100
	OMP_NUM_THREADS=1 DDP_RUNS=$(RUNS) $(BIN)/python -m pytest -m ddp_stress -n 0 -s -q $(ARGS)

bench: $(VENV)/.installed-dev ## set up, then measure: ARGS="depths probe --quick"
	$(BIN)/python benchmarks/bench.py $(ARGS)

lint: $(VENV)/.installed-dev ## style, format and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev ## check the types
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev ## repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and all caches; runs and outputs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache dist build

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"thawlab needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# A stamp is as old as the installation it stands for; the two files it depends on say what belongs into it.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[dev]"
	touch $(VENV)/.installed $@
