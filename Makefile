# Everything runs in .venv, which the first target that needs it makes. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check docs reference format family clean

demo: $(VENV)/.installed ## diagnose the bundled student; writes runs/<date-time>/report.html
	$(BIN)/hydrometer diagnose --questions 24 --visits 6 --min-visits 6

test: $(VENV)/.installed-dev ## the tests that need minutes, not hours
	$(BIN)/pytest -n $(JOBS) -m "not slow and not real_model and not gpu"

test-slow: $(VENV)/.installed-dev ## the long simulations and the real models (HYDROMETER_DATA, HYDROMETER_MODELS)
	$(BIN)/pytest -n $(JOBS) -m "slow or real_model" --timeout=5400

check: $(VENV)/.installed-dev ## lint, types, layers, copied lines
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/pylint hydrometer scripts benchmarks

docs: $(VENV)/.installed-docs ## the site of docs/ into site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: $(VENV)/.installed ## write the pages of docs/ that say what the code says
	$(BIN)/python -m scripts.reference_pages

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

family: $(VENV)/.installed ## train the bundled family again (about an hour of CPU)
	$(BIN)/python scripts/make_family.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@
