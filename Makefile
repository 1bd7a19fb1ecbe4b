# Every target works on a bare clone with Python (3.11 or newer) and pip.
PYTHON ?= python3
BIN := .venv/bin
PHOTO ?= src/mien/assets/sample.png

# What writes a file that is committed; each fails with --check where the file is out of step.
GENERATORS := make_schema make_architectures make_models_page make_datasets_page make_recipes_page make_config_page \
	make_api_page make_cli_page make_rest_page make_cards_page make_errors_page make_systems_pages \
	make_results_tables make_readme

.PHONY: demo test check pages docs parity bench ci clean

demo: .venv/core  ## read a photo: make demo PHOTO=path
	$(BIN)/mien predict $(PHOTO) --save out --jsonl out/faces.jsonl

test: .venv/dev  ## the whole test suite
	$(BIN)/python -m pytest -n 2

check: .venv/dev  ## style, types, imports, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	set -e; for tool in $(GENERATORS); do $(BIN)/python tools/$$tool.py --check; done
	$(MAKE) docs

pages: .venv/dev  ## write every generated file anew
	set -e; for tool in $(GENERATORS); do $(BIN)/python tools/$$tool.py; done

docs: .venv/dev  ## the documentation as a site in out/site, without network; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

parity: .venv/dev  ## the authors' networks; fails where ../shared is missing
	MIEN_REQUIRE_SHARED=1 $(BIN)/python -m pytest tests/parity -m shared

bench: .venv/dev  ## speed, as ratios measured in one run
	$(BIN)/python -m benchmarks.run

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
