# make quickstart   installs, trains three networks, attacks and compares them
# make test         installs what tests need, runs all tests
# make fast         the tests that take seconds
# make soak         trainings killed at 50 random moments
# make lint         style
# make referee      our attacks against other packages', on RUNS
# make bench        our speed beside other packages'
PYTHON ?= python3
RUNS ?= runs/quickstart/undefended,runs/quickstart/softmax
BIN := .venv/bin

.PHONY: quickstart test fast lint referee bench soak clean

quickstart: .venv/installed
	$(BIN)/python -m experiments.quickstart --workdir=runs/quickstart

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

fast: .venv/installed-test
	$(BIN)/python -m pytest -m "not slow"

soak: .venv/installed-test
	ADVLOSS_SOAK=50 $(BIN)/python -m pytest -n 2 tests/soak_test.py

referee: .venv/installed-referee
	$(BIN)/python benchmarks/referee.py --runs=$(RUNS)

bench: .venv/installed-referee
	$(BIN)/python benchmarks/speed.py

lint: .venv/installed-test
	$(BIN)/ruff check .

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-referee: .venv/installed
	$(BIN)/pip install --quiet --editable ".[referee]"
	$(BIN)/pip install --quiet --no-deps --requirement benchmarks/requirements.txt
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --editable ".[test,tfds]"
	touch $@

clean:
	rm -rf .venv
