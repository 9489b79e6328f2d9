# make quickstart       installs, trains three networks, attacks and compares them
# make test             installs what tests need, checks style, runs all tests
# make fast             the tests that take seconds
# make soak             trainings killed at 50 random moments
# make lint             style, types, and which part may import which
# make compare-attacks  our attacks against other packages', on RUNS
# make compare-autoattack  our AutoAttack against its authors', on RUNS
# make bench            our speed beside other packages'
# make bench-resnet     our training of a residual network beside PyTorch's
# make bench-steps      what a step of each defence costs
# make speedrun         one network from nothing by the recipe, beside PyTorch's loop
# make pretrained     saves RUNS as the networks that come with the package
# make docs             the site, into docs/_build/html; its notebooks are executed
# make clean            removes the environment
PYTHON ?= python3
RUNS ?= runs/quickstart/undefended,runs/quickstart/softmax
# On Python 3.11 the versions in this file are installed, those that CI runs. Newer ones:
# make test CONSTRAINTS=, or a newer Python, for which the file says nothing.
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: quickstart test fast lint docs compare-attacks compare-autoattack bench \
	bench-resnet bench-steps speedrun pretrained soak clean

quickstart: .venv/installed
	$(BIN)/python -m experiments.quickstart --workdir=runs/quickstart

test: lint
	$(BIN)/python -m pytest

fast: .venv/installed-test
	$(BIN)/python -m pytest -m "not slow"

soak: .venv/installed-test
	ADVLOSS_SOAK=50 $(BIN)/python -m pytest -n 2 tests/soak_test.py

compare-attacks: .venv/installed-peers
	$(BIN)/python benchmarks/compare_attacks.py --runs=$(RUNS) $(FLAGS)

compare-autoattack: .venv/installed-peers
	$(BIN)/python benchmarks/compare_autoattack.py --runs=$(RUNS) $(FLAGS)

bench: .venv/installed-peers
	$(BIN)/python benchmarks/speed.py

bench-resnet: .venv/installed-peers
	PYTHONPATH=. $(BIN)/python benchmarks/resnet_speed.py $(FLAGS)

speedrun: .venv/installed-peers
	PYTHONPATH=. $(BIN)/python benchmarks/speedrun.py $(FLAGS)

pretrained: .venv/installed
	PYTHONPATH=. $(BIN)/python benchmarks/pretrained.py --runs=$(RUNS) $(FLAGS)

bench-steps: .venv/installed
	PYTHONPATH=. $(BIN)/python benchmarks/step_costs.py $(FLAGS)

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/installed-docs
	$(BIN)/python -m sphinx -E -W --keep-going --quiet docs docs/_build/html

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python setup.cfg pyproject.toml $(CONSTRAINTS)
	$(INSTALL) --editable .
	touch $@

.venv/installed-peers: .venv/installed
	$(INSTALL) --editable ".[peers]"
	$(BIN)/pip install --quiet --no-deps --requirement benchmarks/requirements.txt
	touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) --editable ".[test,tfds]"
	touch $@

.venv/installed-docs: .venv/installed
	$(INSTALL) --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv
