# make quickstart | make test | make check: each sets up what it needs in $(VENV) first.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
# Tests of one file stay together, since they share what is dear to make.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile

.PHONY: quickstart test check slow

quickstart: $(VENV)/.installed
	$(BIN)/vaebench quickstart --output-dir runs/quickstart

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PARALLEL) --durations=15

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow --durations=15

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch torchvision
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@
