# Every target needs only python3 (3.11 to 3.13) and make; `setup` makes the rest.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test lint check format
help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(READY)  ## make .venv with every pinned dependency

$(READY): requirements.lock
	$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(None if ok else "Python 3.11, 3.12 or 3.13 is needed; choose one with: make PYTHON=python3.11")'
	@echo 'installing PyTorch and what else is needed into .venv (7 GB): this takes some minutes'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $(READY)

demo: setup  ## train ResNet-20 with SIC layers on real digits (about a minute on two cores)
	$(BIN)/python train.py experiment=digits_sic

test: setup  ## run all tests
	$(BIN)/python -m pytest -n 2 tests

lint: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

check: lint  ## format, lint, types, fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow" tests

format: setup  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
