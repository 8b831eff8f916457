# Everything works from a bare clone: each target sets up what it needs first.

PYTHON ?= python3
VENV ?= .venv
DEVICE ?= auto
MODEL ?= smollm2
PORT ?= 8000
ARGS ?=
PYTEST ?=
REQUESTS ?= 20000
SECONDS ?= 300
SEED ?=

BIN := $(VENV)/bin
# The set-up script says by itself which Pythons it takes, where Python is at least 3.7.
OLD = import sys; sys.version_info < (3, 7) and sys.exit("set-up: Python 3.11 to 3.13 is needed: name it with PYTHON=")
SETUP = $(PYTHON) -c '$(OLD)' && $(PYTHON) tools/bootstrap.py --venv $(VENV) --device $(DEVICE)
LOCK = $(abspath $(BIN))/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28

.DEFAULT_GOAL := help
.PHONY: help setup dev serve test fuzz soak lint format bench evidence lock clean

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14
	@echo
	@echo 'make serve MODEL=smollm2 PORT=8000 ARGS="--max-model-len 4096": ARGS is any vLLM engine argument'
	@echo 'make test PYTEST="-k budget -x"; PYTHON=python3.12, VENV=.venv and DEVICE=auto|cpu|cuda work everywhere'

setup: ## Make .venv with vLLM and Steersman (idempotent)
	@$(SETUP)

dev: ## The same, with the tools for working on Steersman
	@$(SETUP) --dev

serve: setup ## Serve MODEL on PORT
	@exec $(BIN)/steersman serve $(MODEL) --port $(PORT) $(ARGS)

test: dev ## Run the tests
	$(BIN)/pytest $(PYTEST)

fuzz: dev ## Ask a server REQUESTS odd requests; fails if one hurts another
	$(BIN)/python -m tests.fuzz fuzz --requests $(REQUESTS) $(if $(SEED),--seed $(SEED))

soak: dev ## The same for SECONDS seconds, with clients that hang up
	$(BIN)/python -m tests.fuzz soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tools/bootstrap.py

format: dev ## Put the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## Measure what Steersman costs and gains
	$(BIN)/python benchmarks/passthrough.py
	$(BIN)/python benchmarks/first_finish.py
	$(BIN)/python benchmarks/reasoner.py
	$(BIN)/python benchmarks/steering.py
	$(BIN)/python benchmarks/steering_steps.py
	$(BIN)/python benchmarks/monitor.py
	$(BIN)/python benchmarks/monitor_steps.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python -m benchmarks.registers

evidence: dev ## Run the evaluations behind docs/evidence.md again
	for run in evals/evidence/*.yaml; do \
		$(BIN)/steersman eval $$run --out evals/evidence/results/$$(basename $$run .yaml) || exit 1; \
	done
	$(BIN)/python -m evals.evidence.laws
	$(BIN)/python -m evals.evidence.page

lock: dev ## Resolve requirements/*.in anew
	cd requirements && $(LOCK) --excludes excluded-on-cpu.txt cpu.in -o cpu.lock
	cd requirements && $(LOCK) cuda.in -o cuda.lock
	cd requirements && $(LOCK) -c cpu.lock -c cuda.lock dev.in -o dev.lock

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find server kernels clients tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +
