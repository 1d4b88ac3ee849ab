.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STUDY ?= default

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

setup: .venv/.ready  ## make .venv from requirements.lock

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

demo: setup  ## the main job on a synthetic source: 56 runs, W&B offline, then the report
	$(BIN)/python train.py -m experiment=demo
	$(BIN)/python analyze.py study=demo

test: setup  ## the test suite without the slow ones
	$(BIN)/python -m pytest -q -n 2

test-all: setup  ## every test
	$(BIN)/python -m pytest -q -n 2 -m 'slow or not slow'

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sync: setup  ## upload what W&B has not got of a study: make sync STUDY=default
	$(BIN)/python -m scaling.sync outputs/$(STUDY)

clean:  ## caches of tools; never .venv, never outputs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: help setup demo test test-all lint sync clean
