# Every target works on a bare clone with Python (3.11 or newer) and pip.
PYTHON ?= python3
BIN := .venv/bin
PHOTO ?= src/mien/assets/sample.png

.PHONY: demo test check parity bench ci clean

demo: .venv/core  ## read a photo: make demo PHOTO=path
	$(BIN)/mien predict $(PHOTO) --save out --jsonl out/faces.jsonl

test: .venv/dev  ## the whole test suite
	$(BIN)/python -m pytest -n 2

check: .venv/dev  ## style, types, imports, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/python tools/make_schema.py --check
	$(BIN)/python tools/make_architectures.py --check
	$(BIN)/python tools/make_models_page.py --check
	$(BIN)/python tools/make_datasets_page.py --check
	$(BIN)/python tools/make_recipes_page.py --check
	$(BIN)/python tools/make_config_page.py --check
	$(BIN)/python tools/make_results_tables.py --check
	$(BIN)/python tools/make_readme.py --check

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
