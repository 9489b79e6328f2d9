# make quickstart   installs, trains three networks, attacks and compares them
# make test         installs what tests need, runs all tests
# make fast         the tests that take seconds
# make lint         style
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test fast lint clean

quickstart: .venv/installed
	$(BIN)/python -m experiments.quickstart --workdir=runs/quickstart

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

fast: .venv/installed-test
	$(BIN)/python -m pytest -m "not slow"

lint: .venv/installed-test
	$(BIN)/ruff check .

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --editable ".[test,tfds]"
	touch $@

clean:
	rm -rf .venv
