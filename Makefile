# Two commands: `make demo` shows what jshm does, `make test` runs every check.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip's cache makes the second environment cheap; the checks are exactly those of .ci/run.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lab bench format clean python

demo: $(VENV)/demo.stamp
	$(BIN)/jshm demo --headless

lab: $(VENV)/lab.stamp
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadgroup

bench: $(VENV)/bench.stamp
	$(BIN)/python -m tests.benchmarks

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jshm needs Python 3.11 or newer; \
	say which: make PYTHON=python3.12")'

$(VENV)/demo.stamp: pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable '.[demo]'
	touch $@

$(VENV)/test.stamp: pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable '.[test]'
	$(BIN)/python -m tests.pythons
	touch $@

$(VENV)/lab.stamp: $(VENV)/demo.stamp
	$(PIP) install 'jupyterlab>=4.2'
	touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp
	$(PIP) install --editable '.[test,bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
