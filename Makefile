# make demo: draw products, train, search, compare. make test: lint, types, all tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= .demo

.PHONY: demo test lint extras install clean

demo: $(VENV)/.installed
	$(BIN)/python dual_main.py demo --out=$(DEMO)

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

extras: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[all]"
	$(BIN)/python .ci/import_extras.py

install: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' || \
		{ echo "needs Python 3.10 or 3.11 (TensorFlow 2.15 ends there): make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[geometry,lite]"
	touch $@

$(VENV)/.installed-dev: setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) $(DEMO)
