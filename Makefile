# Understudy: every task of a developer, each doing its own set-up in .venv.
#
#   make demo     pictures from the embedded model, into demo/
#   make test     the tests, some ten minutes; make slow has those that take longer
#   make serve    the service on http://127.0.0.1:8000, its data in data/

PYTHON ?= python3
CHAOS_MINUTES ?= 10
JOBS ?= 10000
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The reference service's own SDK, two versions side by side: the tests drive our server with both.
SEGMIND_VERSIONS := 1.1.0 1.3.0

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test slow chaos storm lint format bench clean

help:  ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with the service, the embedded model and what the tests need

$(READY): pyproject.toml models/toon/pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (some minutes the first time: PyTorch is large)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Understudy needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt -e ./models/toon -e '.[server,pose,test]'
	@for version in $(SEGMIND_VERSIONS); do \
		$(PIP) install --upgrade --no-deps --target $(VENV)/segmind/$$version segmind==$$version || exit 1; \
	done
	@touch $@

demo: setup  ## Draw the same character in five pictures and a contact sheet, into demo/
	$(BIN)/python examples/demo.py

serve: setup  ## Run the service on http://127.0.0.1:8000
	$(BIN)/understudy serve

test: setup  ## Run the tests, but for those of make slow
	$(BIN)/python -m pytest -m "not slow"

slow: setup  ## Run the tests that take longer than ten seconds each
	$(BIN)/python -m pytest -m slow

chaos: setup  ## Kill the service in every state and at every boundary, for CHAOS_MINUTES=10
	CHAOS_MINUTES=$(CHAOS_MINUTES) $(BIN)/python -m pytest tests/chaos tests/jobs/test_machine.py --timeout 0 -s

storm: setup  ## Kill the service at random while accounts ask for JOBS=10000 jobs, then look at every bill
	CHAOS_MINUTES=0 CHAOS_JOBS=$(JOBS) $(BIN)/python -m pytest tests/chaos/test_storm.py --timeout 0 -s

lint: setup  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## Format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## Measure this machine, into benchmarks/RESULTS.md; ONLY="queue polls" for some sections
	@$(PIP) install -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/bench.py $(ONLY)

clean:  ## Remove what was made here, .venv and demo/ included; data/ stays
	rm -rf $(VENV) demo build dist models/toon/build src/*.egg-info models/toon/src/*.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
