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
	$(BIN)/python analyze.py study=demo bootstrap=200

test: setup  ## the test suite without the slow ones
	$(BIN)/python -m pytest -q -n 2

test-all: setup  ## every test
	$(BIN)/python -m pytest -q -n 2 -m 'slow or not slow'

test-slurm: setup  ## a 2 x 2 sweep on a one-node SLURM, one run preempted (as root; Debian's slurmctld slurmd munge slurm-client)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[dev,slurm]'
	$(BIN)/python benchmarks/launchers.py slurm_local slurm

test-ray: setup  ## the same sweep on Ray, local and on a cluster of two nodes on this host
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[dev,ray]'
	$(BIN)/python benchmarks/launchers.py ray ray_cluster

test-hub: setup  ## models and exports against transformers, which it installs beside .venv
	$(BIN)/pip install --quiet --constraint requirements.lock --upgrade --target .hub safetensors transformers
	PYTHONPATH=.hub $(BIN)/python -m pytest -q -n 2 tests/test_agreement.py

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## training speed beside a plain script: make bench DATA=directory of WikiText-2
	$(BIN)/python benchmarks/train.py $(if $(DATA),--data $(DATA)) --write docs/performance.md

bench-gpu: setup  ## the sweep and a 124M model on one GPU: make bench-gpu DATA=directory of WikiText-2
	$(BIN)/python benchmarks/gpu.py $(if $(DATA),--data $(DATA)) --write docs/performance.md

bench-kernels: setup  ## what the C++ kernels save, size by size
	$(BIN)/python benchmarks/kernels.py

bench-report: setup  ## analyze.py over ten thousand records
	$(BIN)/python benchmarks/report.py

bench-laws: setup  ## speed of the fits beside the usual grid of L-BFGS-B starts
	$(BIN)/python benchmarks/laws.py

test-chaos: setup  ## the short form of make chaos: a real sweep, four faults, nothing lost and nothing doubled
	$(BIN)/python benchmarks/chaos.py --short

chaos: setup  ## hit a sweep with every kind of fault at random moments, and check that nothing is lost or doubled
	$(BIN)/python benchmarks/chaos.py --write docs/reliability.md

figures: setup  ## the figures of README and docs, from the study in outputs/frontier
	$(BIN)/python analyze.py study=frontier
	mkdir -p docs/figures
	cp outputs/frontier/report/figures/loss_vs_compute.png outputs/frontier/report/figures/efficient_frontier.png docs/figures/

sync: setup  ## upload what W&B has not got of a study: make sync STUDY=default
	$(BIN)/python -m scaling.sync outputs/$(STUDY)

clean:  ## caches of tools; never .venv, never outputs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: help setup demo test test-all test-chaos test-hub test-slurm test-ray lint bench bench-gpu bench-kernels bench-laws bench-report chaos figures sync clean
