# Two commands matter: `make demo` and `make test`. Each sets up its own .venv from nothing but Python.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two processes for a core, five at most: half of a test's time is waiting for servers and processes.
# A file's tests stay together, as they share servers and stores; tests/conftest.py says which files come first.
CORES  := $(shell getconf _NPROCESSORS_ONLN)
PYTEST := $(BIN)/python -m pytest -q -n $$(( $(CORES) < 3 ? 2 * $(CORES) : 5 )) --dist loadfile --no-loadscope-reorder

# Compiled Python is kept: each of these processes, and each program that a test starts, would compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-local test test-fast docs bench statistics wheel release image lint format types clean constraints

help:           ## what can be run
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What is compiled when the package is installed; where there is no C compiler, it is installed without.
COMPILED := hatch_build.py logprob_store/decode/bulk/scan_loop.c

$(VENV)/.dev: pyproject.toml constraints.txt $(COMPILED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,local]'
	@touch $@ $(VENV)/.run

# The demo needs no test tools, no server and no model: only the package itself, and what its report is drawn with.
$(VENV)/.run: pyproject.toml constraints.txt $(COMPILED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[view]'
	@touch $@

$(VENV)/.local: pyproject.toml constraints.txt $(COMPILED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,view]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: pyproject.toml constraints.txt $(COMPILED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@ $(VENV)/.run

# What checks the pages' JavaScript and CSS. Where npm is missing, that is left out and said; CI installs npm.
node_modules/.installed: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

ifneq ($(shell command -v npm),)
JAVASCRIPT := node_modules/.installed
with_node = node_modules/.bin/$(1)
else
with_node = @echo "npm is not installed: the pages' JavaScript is left out ($(1))"
endif

demo: $(VENV)/.run          ## the main job, offline, from the committed fixtures
	$(BIN)/python jobs/demo.py jobs/demo.toml

demo-local: $(VENV)/.local  ## the same job live against a real llama.cpp server and a real model
	$(BIN)/python jobs/demo.py jobs/local.toml --serve

test: lint types            ## everything: lint, types, doctests, docs, the real server
	$(PYTEST)

test-fast: $(VENV)/.dev     ## tests without the real server, the browser and what takes seconds
	$(PYTEST) -m 'not live and not slow'

docs: $(VENV)/.dev          ## write what docs/ takes from the code: metrics, public names, failures, events, charts
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python docs/generate_gallery.py

bench: $(VENV)/.bench       ## how fast it is beside what a user would pick instead: ten minutes on an idle machine
	$(BIN)/python benchmarks/run.py

statistics: $(VENV)/.dev   ## how often intervals hold the truth; writes docs/statistics.md: a quarter of an hour of CPU
	POLARS_MAX_THREADS=1 $(BIN)/python benchmarks/intervals.py --docs

wheel: $(VENV)/.dev         ## dist/: a wheel for this kind of machine, the source, and in dist/any/ a wheel for any machine
	$(BIN)/python release/wheels.py

release: $(VENV)/.dev       ## VERSION=0.2.0: tests, version, changelog, wheels tried out, commit, tag; DRY_RUN=1 but those two
	$(BIN)/python release/make_release.py $(VERSION) $(if $(DRY_RUN),--dry-run)
	$(MAKE) $(VENV)/.dev

image: $(BIN)/python         ## the Dockerfile built with docker, podman or buildah, and the demo run in it
	$(BIN)/python release/image.py

lint: $(VENV)/.dev $(JAVASCRIPT)    ## ruff and biome, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(call with_node,biome ci)

types: $(VENV)/.dev $(JAVASCRIPT)   ## mypy, strict, and tsc over the types in JavaScript's comments
	$(BIN)/mypy
	$(call with_node,tsc)

format: $(VENV)/.dev $(JAVASCRIPT)  ## let ruff and biome format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(call with_node,biome check --write)

clean:                      ## remove what the demos wrote
	rm -rf out .logprobs

constraints: $(VENV)/.dev   ## pin what is installed now into constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' > constraints.txt
