# Everything works from a bare clone: each target sets up what it needs first.

PYTHON ?= python3
VENV ?= .venv
DEVICE ?= auto
MODEL ?= smollm2
PORT ?= 8000
ARGS ?=
PYTEST ?=
REQUESTS ?= 20000
SECONDS ?= 1800
HANG_UP ?=
SEED ?=

BIN := $(VENV)/bin
# The device of an environment that is there, else what the machine has.
ifeq ($(DEVICE),auto)
override DEVICE := $(or $(patsubst $(VENV)/ready-%,%,$(firstword $(wildcard $(VENV)/ready-*))),$\
	$(if $(shell nvidia-smi -L 2>/dev/null),cuda,cpu))
endif
READY := $(VENV)/ready-$(DEVICE)
TOOLS := $(VENV)/tools-$(DEVICE)
RAY := $(VENV)/ray-$(DEVICE)
DEPLOY := $(VENV)-deploy
SCALE := $(VENV)-scale
AUDIT := $(VENV)-audit
TORCH := torch==2.13.0+cpu
# Pythons before 3.7 cannot read the file that names the ones that will do.
OLD = import sys; sys.version_info < (3, 7) and sys.exit("set-up: Python 3.11 to 3.13 is needed: name it with PYTHON=")
PREFLIGHT = $(PYTHON) -I server/steersman/preflight.py $(VENV) $(DEVICE)
FAILED = || { $(PREFLIGHT) --failed; exit 1; }
# uv draws its progress on a terminal; in a log the names of the steps are enough.
QUIET := $(shell test -t 2 || echo --quiet)
ALONE = flock $(CURDIR) $(MAKE) --silent DEVICE=$(DEVICE)
# Packages come from where pip would look. What a killed run has left half done is done anew.
SOURCES = eval "$$($(BIN)/python tools/uv_sources.py $(BIN)/pip)"
UV = $(SOURCES) && VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv
INSTALL = $(UV) pip install $(QUIET) --no-deps $(if $(wildcard $(VENV)/unfinished),--reinstall)
LOCK = $(abspath $(BIN))/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28

.DEFAULT_GOAL := help
.PHONY: help check setup setup-ray dev serve test test-unit test-deploy test-scale test-image fuzz soak lint \
	audit format bench evidence dashboards lock clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20
	@echo
	@echo 'make serve MODEL=smollm2 PORT=8000 ARGS="--max-model-len 4096": ARGS is any vLLM engine argument'
	@echo 'make test PYTEST="-k budget -x"; PYTHON=python3.12, VENV=.venv and DEVICE=auto|cpu|cuda work everywhere'

check:
	@$(PYTHON) -c '$(OLD)' && $(PREFLIGHT)

setup: check ## Make .venv with vLLM and Steersman (idempotent)
	@$(ALONE) $(READY)

setup-ray: check ## The same, with Ray for several nodes
	@$(ALONE) $(RAY)

dev: check ## The first, with the tools for working on Steersman
	@$(ALONE) $(TOOLS)

$(BIN)/uv: requirements/setup.lock
	@$(PREFLIGHT) --install
	@echo "setting up $(VENV) for $(DEVICE)"
	@# A killed run may have left half of a pip, which would count as there.
	@$(BIN)/pip --version >/dev/null 2>&1 || { rm -rf $(VENV)/lib/python*/site-packages/pip*; \
		$(PYTHON) -m venv $(VENV); } $(FAILED)
	@$(BIN)/pip install --quiet --retries 2 --disable-pip-version-check --require-hashes -r $< $(FAILED)
	@touch $@

# An environment for another device has other builds of the same packages.
$(READY): requirements/$(DEVICE).lock pyproject.toml clients/python/pyproject.toml | $(BIN)/uv
	@$(PREFLIGHT) --install
	@if ls $(VENV)/ready-* 2>/dev/null | grep -qv $@; then rm -rf $(VENV) && $(MAKE) $(BIN)/uv; fi
	@touch $(VENV)/unfinished
ifeq ($(DEVICE),cpu)
	@# Its CPU build is no ordinary release: where no source has it, uv knows where PyTorch keeps it.
	@echo "$(TORCH)"
	@$(INSTALL) --quiet --dry-run $(TORCH) 2>/dev/null && backend= || backend="--torch-backend cpu"; \
		$(INSTALL) $$backend $(TORCH) $(FAILED)
endif
	@echo "$<"
	@$(INSTALL) --require-hashes -r $< $(FAILED)
	@$(INSTALL) --no-build-isolation -e clients/python -e . $(FAILED)
	@rm $(VENV)/unfinished && touch $@

$(TOOLS): requirements/dev.lock $(READY)
	@touch $(VENV)/unfinished
	@echo "$<"
	@$(INSTALL) --require-hashes -r $< $(FAILED)
	@rm $(VENV)/unfinished && touch $@

$(RAY): requirements/ray.lock $(READY)
	@touch $(VENV)/unfinished
	@echo "$<"
	@$(INSTALL) --require-hashes -r $< $(FAILED)
	@rm $(VENV)/unfinished && touch $@

# Environments of their own: they need no vLLM.
$(DEPLOY)/ready $(AUDIT)/ready: $(VENV)-%/ready: requirements/%.lock | $(BIN)/uv
	@echo "$<"
	@rm -rf $(@D) && $(BIN)/uv venv --quiet --python $(BIN)/python $(@D)
	@$(SOURCES) && VIRTUAL_ENV=$(abspath $(@D)) \
		$(BIN)/uv pip install $(QUIET) --no-deps --require-hashes -r $< $(FAILED)
	@touch $@

# Of its own too: it brings another version of what serves.
$(SCALE)/ready: requirements/scale.lock $(TOOLS)
	@echo "$<"
	@rm -rf $(SCALE) && $(BIN)/uv venv --quiet --python $(BIN)/python $(SCALE)
	@$(SOURCES) && VIRTUAL_ENV=$(abspath $(SCALE)) \
		$(BIN)/uv pip install $(QUIET) --no-deps --require-hashes -r $< $(FAILED)
	@touch $@

serve: setup ## Serve MODEL on PORT
	@exec $(BIN)/steersman serve $(MODEL) --port $(PORT) $(ARGS)

test: dev ## Run the tests, in two workers
	$(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder $(PYTEST)

test-unit: dev ## Run the tests that need neither an engine nor a server
	$(BIN)/pytest -n 2 --dist loadscope tests/unit $(PYTEST)

test-deploy: check ## Check the chart in deploy/ and its dashboard, without a cluster
	@$(ALONE) $(DEPLOY)/ready
	$(DEPLOY)/bin/python -m pytest tests/deploy $(PYTEST)

test-scale: dev ## Run HTTP tests on two ranks, two stages, two engines, two replicas behind a router
	@$(ALONE) $(SCALE)/ready
	for scale in tensor pipeline data replicas; do \
		STEERSMAN_ROUTER=$(abspath $(SCALE))/bin/vllm-router \
			$(BIN)/pytest tests/http --on $$scale $(PYTEST) || exit 1; \
	done

test-image: dev ## Build the image with buildah (as root), and run HTTP tests on it
	tools/image.sh $(BASE)
	$(BIN)/pytest tests/http --on image $(PYTEST)

fuzz: dev ## Ask a server REQUESTS odd requests; fails if one hurts another
	$(BIN)/python -m tests.fuzz fuzz --requests $(REQUESTS) $(if $(SEED),--seed $(SEED)) \
		$(if $(HANG_UP),--hang-up)

soak: dev ## Keep a server busy for SECONDS; fails if it grows, slows down or loses something
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tools

audit: setup ## List what is installed in build/sbom.json; fails at known advisories
	@$(ALONE) $(AUDIT)/ready
	@mkdir -p build
	$(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json $(BIN)/python
	$(AUDIT)/bin/python tools/audit.py requirements/*.lock

format: dev ## Put the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## Measure what Steersman costs and gains
	$(BIN)/python benchmarks/passthrough.py
	$(BIN)/python benchmarks/cores.py
	$(BIN)/python benchmarks/first_finish.py
	$(BIN)/python benchmarks/reasoner.py
	$(BIN)/python benchmarks/steering.py
	$(BIN)/python benchmarks/steering_steps.py
	$(BIN)/python benchmarks/monitor.py
	$(BIN)/python benchmarks/monitor_steps.py
	$(BIN)/python benchmarks/cautious.py
	$(BIN)/python benchmarks/align.py
	$(BIN)/python benchmarks/starving.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python -m benchmarks.registers

evidence: dev ## Run the evaluations behind docs/evidence.md again
	for run in evals/evidence/*.yaml; do \
		$(BIN)/steersman eval $$run --out evals/evidence/results/$$(basename $$run .yaml) || exit 1; \
	done
	$(BIN)/python -m evals.evidence.laws
	$(BIN)/python -m evals.evidence.align
	$(BIN)/python -m evals.evidence.apart
	$(BIN)/python -m evals.evidence.page

dashboards: check ## Write the dashboard and the alerts of deploy/ anew
	@$(ALONE) $(DEPLOY)/ready
	$(DEPLOY)/bin/python -m deploy.dashboards

lock: dev ## Resolve requirements/*.in anew
	cd requirements && $(LOCK) setup.in -o setup.lock
	cd requirements && $(LOCK) --excludes excluded-on-cpu.txt cpu.in -o cpu.lock
	cd requirements && $(LOCK) cuda.in -o cuda.lock
	cd requirements && $(LOCK) -c cpu.lock -c cuda.lock dev.in -o dev.lock
	cd requirements && $(LOCK) -c cpu.lock -c cuda.lock ray.in -o ray.lock
	cd requirements && $(LOCK) -c cpu.lock -c dev.lock deploy.in -o deploy.lock
	cd requirements && $(LOCK) -c cpu.lock -c dev.lock scale.in -o scale.lock
	cd requirements && $(LOCK) audit.in -o audit.lock

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) $(DEPLOY) $(SCALE) $(AUDIT) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find server kernels clients tests tools benchmarks deploy -name __pycache__ -prune -exec rm -rf {} +
