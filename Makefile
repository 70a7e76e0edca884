# Everything is installed into .venv; `make demo` and `make test` need only Python 3.11 and a package index.
PYTHON ?= python3.11
BIN := .venv/bin
WORKERS ?= 2

.PHONY: demo test slow lint docs clean

.venv/.core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/.docs: .venv/.core
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

demo: .venv/.core
	$(BIN)/croco3d demo

test: .venv/.dev
	$(BIN)/python -m pytest -n $(WORKERS)

slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/.docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build dist site
