# Every target works on a clean clone with Python 3.11 or newer and pip.
PYTHON ?= python3
BIN := .venv/bin
PHOTO ?= src/mien/assets/sample.png
PYTEST := $(BIN)/python -m pytest
PIP := -m pip install --quiet --disable-pip-version-check
TEST_TOOLS := pytest pytest-xdist pytest-randomly pytest-socket hypothesis httpx jsonschema packaging
SECONDS ?= 600
FUZZ ?= images videos tables cards checkpoints
EXTRAS ?=
MERMAID ?=
DATA ?= ../shared/data/fer2013
comma := ,
empty :=
extras = $(if $(EXTRAS),[$(subst $(empty) $(empty),$(comma),$(EXTRAS))])

.PHONY: help demo test test-fast test-slow check format docs images cover parity bench bench-photos profile default-weights \
	dist floor latest fuzz audit sbom ci clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

demo: .venv/core  ## predict on one photo: make demo PHOTO=path
	$(BIN)/mien predict $(PHOTO) --save out --jsonl out/faces.jsonl

test: .venv/dev  ## the test suite without the slow tests, at most ten minutes on two cores
	$(PYTEST) -n 2 --dist worksteal -m "not slow"

test-fast: .venv/fast  ## the tests that need no extra but eval, at most three minutes
	MIEN_TEST_EXTRAS=eval $(PYTEST) -n 2 --dist worksteal -m "not slow and not shared"

test-slow: .venv/dev  ## the slow tests
	$(PYTEST) -n 2 --dist worksteal -m slow

check: .venv/dev  ## style, types, imports, language, generated files, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/python tools/language.py
	$(BIN)/python tools/generate.py --check
	$(MAKE) docs

format: .venv/dev  ## format the code and regenerate committed files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tools/generate.py

docs: .venv/dev  ## the documentation in out/site; works offline, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

images: .venv/dev  ## regenerate the images of the documentation (needs ../shared and Chromium): make images MERMAID=mermaid.min.js
	$(BIN)/python tools/images.py $(if $(MERMAID),--mermaid $(MERMAID))

cover: .venv/dev  ## branch coverage of the core
	$(PYTEST) -q -n 2 --dist worksteal -m "not slow" --cov=mien --cov-branch --cov-report=term:skip-covered

parity: .venv/dev  ## compare with the authors' networks; fails where ../shared is missing
	MIEN_REQUIRE_SHARED=1 $(PYTEST) tests/parity -m shared

bench: .venv/dev  ## speed, as ratios measured in one run
	$(BIN)/python -m benchmarks.run

bench-photos: .venv/dev  ## accuracy on photographs, end to end: PEERS="--fer-python … --node-dir …" adds other packages
	$(BIN)/python -m benchmarks.photos $(PEERS)

profile: .venv/dev  ## flame graphs of inference
	$(BIN)/python $(PIP) py-spy
	$(BIN)/python -m benchmarks.profiling

default-weights: .venv/dev  ## train both bundled classifiers, a day on two cores: DATA=folder of FER2013
	$(BIN)/python tools/default_weights.py --data $(DATA) $(if $(SMOKE),--smoke)

dist: .venv/dev  ## wheel and source archive in dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	ls -l dist

floor:  ## the tests with the lowest versions that pyproject.toml allows: make floor EXTRAS="eval video serve parquet"
	$(PYTHON) -m venv --clear out/floor
	out/floor/bin/python $(PIP) uv
	out/floor/bin/uv pip install --python out/floor/bin/python --quiet --resolution lowest-direct -e '.$(extras)'
	out/floor/bin/python $(PIP) $(TEST_TOOLS)
	out/floor/bin/python -m pytest -m "not slow" -W ignore::DeprecationWarning

latest:  ## the tests of the core with the newest versions
	$(PYTHON) -m venv --clear out/latest
	out/latest/bin/python $(PIP) --upgrade -e '.$(extras)' $(TEST_TOOLS)
	out/latest/bin/python -m pytest -m "not slow"

fuzz: .venv/dev  ## fuzz each target for SECONDS (Linux): make fuzz SECONDS=60 FUZZ=cards
	$(BIN)/python $(PIP) atheris
	set -e; for target in $(FUZZ); do $(BIN)/python -m fuzz $$target --seconds $(SECONDS); done

audit: .venv/dev  ## licenses and known vulnerabilities of the installed packages; needs a network
	$(BIN)/pip-licenses --order=license
	$(PYTHON) -m venv out/audit
	out/audit/bin/python $(PIP) pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > out/installed.txt
	out/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r out/installed.txt

sbom: .venv/dev  ## CycloneDX bill of materials in out/sbom.json: make sbom EXTRAS="train serve"
	mkdir -p out
	$(BIN)/python tools/sbom.py $(EXTRAS) > out/sbom.json

ci: clean
	$(MAKE) demo
	$(MAKE) check
	$(MAKE) test

clean:
	rm -rf .venv out

.venv/core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -e .
	touch $@

.venv/fast: .venv/core pyproject.toml
	$(BIN)/python $(PIP) -e '.[eval]' $(TEST_TOOLS)
	touch $@

.venv/dev: .venv/core pyproject.toml
	$(BIN)/python $(PIP) -e '.[dev]'
	touch $@ .venv/fast
