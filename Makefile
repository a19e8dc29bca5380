# What CI runs, and what you run. Every target uses the virtual environment in .venv (VENV=... for another one).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Two test processes with a thread each: more threads than cores make small convolutions crawl.
# pytest keeps the tests that it has rewritten as bytecode, where the environment does not forbid it.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile
DEMO ?= .demo
SLURM_STATE ?= .slurm-testbed
DEMO_SETTINGS = HARNESS_DATASET_SHAPES=$(DEMO)/shapes HARNESS_RUN_ROOT=$(DEMO)/runs \
	HARNESS_TRACKING_URI=sqlite:///$(DEMO)/mlflow.db HARNESS_LOCAL_JOBS=2

.DEFAULT_GOAL := help
.PHONY: help install demo check test test-slow test-every-cell bench lint types wheel slurm-up slurm-down clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## install the package with all it needs into $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tuning,ui]'
	touch $@

demo: install  ## run four small cells on generated shapes: trainings, MLflow, report, pictures
	$(BIN)/harness data shapes $(DEMO)/shapes --train 200 --val 60
	$(DEMO_SETTINGS) $(BIN)/harness submit experiments/demo.yaml --cluster local --wait
	$(DEMO_SETTINGS) $(BIN)/harness report experiments/demo.yaml --output $(DEMO)/report
	@echo
	@echo "report:  $(abspath $(DEMO))/report/README.md"
	@echo "picture: $(abspath $(DEMO))/report/sample.jpg"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy --strict --num-workers 2 harness

check: lint types  ## lint, types and the quick tests: no root, no network, under 90 s
	$(PYTEST) -m 'not slow and not slurm and not browser and not network and not gpu'

test: lint types wheel  ## all but test-slow; the tests on SLURM share one cluster, so they run in one process
	$(PYTEST) -m 'not slurm'
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'slurm and not slow'

test-slow: install  ## the long tests on SLURM, and those that kill processes and servers, with 20 kills where they have 6
	HARNESS_TEST_KILLS=20 $(PYTEST) -m slow -k 'kill or fault' tests/training tests/tracking tests/launching tests/tuning
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'slurm and slow'

test-every-cell: install  ## two iterations of each of the 84 cells, killed between them
	HARNESS_TEST_EVERY_CELL=1 $(BIN)/pytest tests/launching/test_every_cell.py

bench: install  ## every benchmark, one after the other, on a quiet machine (tests/benchmarks)
	$(BIN)/python tests/benchmarks

wheel: install  ## build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null

slurm-up:  ## a real SLURM on this machine: Debian, as root, loopback only, state in $(SLURM_STATE)
	$(PYTHON) slurm/testbed/testbed.py up --state $(SLURM_STATE)

slurm-down:  ## cancel its jobs and end its daemons
	$(PYTHON) slurm/testbed/testbed.py down --state $(SLURM_STATE)

clean:  ## remove what was built, not the runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
