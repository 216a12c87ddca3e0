# make demo   segment real images and write overlays into demo/
# make test   ruff, mypy and the tests
# Both run `make setup` first: it makes .venv in this folder when it is missing or stale.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.samed2-setup
JOBS ?= 2

# The environment is usable when its interpreter runs and imports samed2 from this very folder.
CHECK := import pathlib, sys, samed2; sys.exit(pathlib.Path.cwd() / "src" not in pathlib.Path(samed2.__file__).resolve().parents)

.PHONY: help setup demo test lint clean

help:
	@sed -n 's/^# //p' $(firstword $(MAKEFILE_LIST))

setup:
	@if [ -e $(STAMP) ] && ! $(PY) -c '$(CHECK)' >/dev/null 2>&1; then rm -f $(STAMP); fi
	@$(MAKE) --no-print-directory $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "samed2 needs Python 3.10 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; run make PYTHON=python3.x")'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(PY) -m samed2 demo --out demo

lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy

test: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
