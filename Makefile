# Every target works on a bare clone with Python (3.11 or newer) and pip.
PYTHON ?= python3
BIN := .venv/bin
PHOTO ?= src/mien/assets/sample.png

# What writes a file that is committed; each fails with --check where the file is out of step.
GENERATORS := make_schema make_architectures make_models_page make_datasets_page make_recipes_page make_config_page \
	make_api_page make_cli_page make_rest_page make_cards_page make_errors_page make_systems_pages \
	make_results_tables make_readme

# The tests that the core alone passes, without any extra.
CORE_TESTS := tests/detection tests/datasets tests/test_install.py \
	$(patsubst %,tests/cli/test_%.py,command datasets predict) \
	$(patsubst %,tests/test_%.py,alignment calibration cards color_order decoding drawing fetching images inventory labels \
	landmarks locks lookup placement preprocessing recognizer regions runtime sinks smoothing sources tables topology tracking types)
# What else tests the core, with PyAV.
COVER_TESTS := $(CORE_TESTS) tests/faults/test_outputs.py tests/faults/test_surroundings.py \
	$(patsubst %,tests/cli/test_%.py,predict_video prepare) \
	$(patsubst %,tests/test_%.py,audit determinism devices outside preparation recording streaming timeline video writing)
# What else the core passes with some extras.
EXTRA_TESTS_eval := tests/metrics $(patsubst %,tests/test_%.py,comparison evaluation report robustness verification)
EXTRA_TESTS_video := $(patsubst %,tests/test_%.py,audit recording streaming timeline video)
EXTRA_TESTS_serve := $(EXTRA_TESTS_video) $(patsubst %,tests/serving/test_%.py,admission explain_requests fuzzed_uploads gauges \
	jobs predict_requests shutdown streams)
EXTRA_TESTS_train := tests/exporting tests/importing tests/losses tests/models \
	$(patsubst %,tests/test_%.py,embedding explaining torch_devices torch_runtime) \
	$(patsubst %,tests/training/test_%.py,augmentation convolution distillation multitask multitask_fer2013 starts training)
EXTRA_TESTS_scale := $(patsubst %,tests/scaling/test_%.py,gpus hanging inputs rows)
CORE_TOOLS := pytest pytest-randomly pytest-socket hypothesis httpx jsonschema packaging
QUIET_PIP := -m pip install --quiet --disable-pip-version-check
SECONDS ?= 600
FUZZ ?= images videos tables cards checkpoints
EXTRAS ?=
MERMAID ?=
DATA ?= ../shared/data/fer2013
comma := ,
empty :=
space := $(empty) $(empty)

.PHONY: demo test cover check pages images docs parity bench profile default-weights ci clean dist floor latest fuzz audit sbom

demo: .venv/core  ## read a photo: make demo PHOTO=path
	$(BIN)/mien predict $(PHOTO) --save out --jsonl out/faces.jsonl

test: .venv/dev  ## the whole test suite
	$(BIN)/python -m pytest -n 2

cover: .venv/dev  ## how much of the core its tests run, by branches
	$(BIN)/python -m pytest -q -m "not slow" --cov=mien --cov-branch --cov-report=json:out/coverage.json $(COVER_TESTS)
	$(BIN)/python tools/coverage_of_core.py --least 95

check: .venv/dev  ## style, types, imports, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	set -e; for tool in $(GENERATORS); do $(BIN)/python tools/$$tool.py --check; done
	$(BIN)/python tools/images.py --check
	$(MAKE) docs

pages: .venv/dev  ## write every generated file anew
	set -e; for tool in $(GENERATORS); do $(BIN)/python tools/$$tool.py; done

images: .venv/dev  ## make the documentation's images anew, with ../shared and Chromium; its diagrams with MERMAID=mermaid.min.js
	set -e; for tool in make_images make_page_images make_explaining_images; do $(BIN)/python tools/$$tool.py; done
	$(if $(MERMAID),$(BIN)/python tools/make_diagrams.py $(MERMAID))

docs: .venv/dev  ## the documentation as a site in out/site, without network; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

parity: .venv/dev  ## the authors' networks; fails where ../shared is missing
	MIEN_REQUIRE_SHARED=1 $(BIN)/python -m pytest tests/parity -m shared

bench: .venv/dev  ## speed, as ratios measured in one run
	$(BIN)/python -m benchmarks.run

profile: .venv/dev  ## where the time goes: flame images and a page
	$(BIN)/python $(QUIET_PIP) py-spy
	$(BIN)/python -m benchmarks.profiling

default-weights: .venv/dev  ## train both bundled classifiers anew and write their files, a day on two cores: DATA=folder of FER2013
	$(BIN)/python tools/default_weights.py --data $(DATA) $(if $(SMOKE),--smoke)

dist: .venv/dev  ## wheel and source archive in dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	ls -l dist

floor:  ## the core's tests with the lowest versions that pyproject.toml allows: make floor EXTRAS="eval video serve parquet"
	$(PYTHON) -m venv --clear out/floor
	$(PYTHON) tools/lowest_versions.py $(EXTRAS) > out/floor/constraints.txt
	out/floor/bin/python $(QUIET_PIP) -c out/floor/constraints.txt -e '.$(if $(EXTRAS),[$(subst $(space),$(comma),$(EXTRAS))])' $(CORE_TOOLS)
	out/floor/bin/python -m pytest -m "not slow" -W ignore::DeprecationWarning $(CORE_TESTS) $(sort $(foreach extra,$(EXTRAS),$(EXTRA_TESTS_$(extra))))

latest:  ## the same with the newest ones
	$(PYTHON) -m venv --clear out/latest
	out/latest/bin/python $(QUIET_PIP) --upgrade -e . $(CORE_TOOLS)
	out/latest/bin/python -m pytest -m "not slow" $(CORE_TESTS)

fuzz: .venv/dev  ## SECONDS of fuzzing for each target (Linux): make fuzz SECONDS=60 FUZZ=cards
	$(BIN)/python $(QUIET_PIP) atheris
	set -e; for target in $(FUZZ); do $(BIN)/python -m fuzz $$target --seconds $(SECONDS); done

audit: .venv/dev  ## licenses and known vulnerabilities of what is installed: make audit EXTRAS="train serve"
	$(BIN)/python tools/inventory.py licenses $(EXTRAS)
	$(PYTHON) -m venv out/audit
	out/audit/bin/python $(QUIET_PIP) pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > out/installed.txt
	out/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r out/installed.txt \
	|| { echo "Known vulnerabilities, or a package that could not be looked up (a service on the network is asked): see above." >&2; exit 1; }

sbom: .venv/dev  ## a bill of materials in out/sbom.json (CycloneDX): make sbom EXTRAS=serve
	mkdir -p out
	$(BIN)/python tools/inventory.py sbom $(EXTRAS) > out/sbom.json

ci: clean
	$(MAKE) demo
	$(MAKE) check
	$(MAKE) test

clean:
	rm -rf .venv out

.venv/core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/dev: .venv/core pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@
