# Two commands: `make demo` runs the main job, `make test` passes the tests. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EMULATOR := .emulator
LOCK := --quiet --universal --generate-hashes --python-version 3.11 --no-header

.PHONY: setup demo test lint lock clean

setup: $(READY)

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("utxoiq needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/utxoiq demo $(if $(BLOCKS),--blocks "$(BLOCKS)")

# A BigQuery for the tests, in an environment of its own, with the extension it would else fetch when it starts.
$(EMULATOR)/.ready: requirements/emulator.txt
	$(PYTHON) -m venv $(EMULATOR)
	$(EMULATOR)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/emulator.txt
	mkdir -p $(EMULATOR)/home
	HOME=$(abspath $(EMULATOR)/home) $(EMULATOR)/bin/python -c 'from duckdb_extensions import import_extension as i; i("spatial")'
	touch $@

test: setup $(EMULATOR)/.ready lint
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:
	uv pip compile $(LOCK) requirements/dev.in --output-file requirements/dev.txt
	uv pip compile $(LOCK) --constraints requirements/dev.txt requirements/run.in --output-file requirements/run.txt
	uv pip compile $(LOCK) requirements/emulator.in --output-file requirements/emulator.txt
	uv pip compile $(LOCK) --constraints requirements/dev.txt requirements/build.in --output-file requirements/build.txt

clean:
	rm -rf $(VENV) $(EMULATOR)
