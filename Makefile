# Two commands: `make demo` shows what jshm does, `make test` runs every check.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip's cache makes the second environment cheap; the checks are exactly those of .ci/run.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FRONT := $(shell find labextension -name node_modules -prune -o -name lib -prune -o -type f -print)
NPM := cd labextension && PATH="$(abspath $(BIN)):$$PATH" npm --loglevel=error

.PHONY: demo test torture lab screenshot bench figures format clean python node

demo: $(VENV)/demo.stamp
	$(BIN)/jshm demo --headless

lab: $(VENV)/lab.stamp
	$(BIN)/jshm demo

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NPM) run lint
	$(NPM) test
	$(BIN)/python -m pytest -n 2 --dist loadgroup
	$(BIN)/python -m pytest tests/browser

# The long version of what the tests do to break jshm: about an hour; root tries the most.
torture: $(VENV)/torture.stamp
	$(BIN)/python -m tests.torture

screenshot: $(VENV)/test.stamp
	SCREENSHOT=1 $(BIN)/python -m pytest tests/browser/test_readme.py

# `make bench BENCH='republish --rounds 3'` measures less; `figures` renews those of the README.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m tests.benchmarks $(BENCH)

figures: BENCH = --json docs/benchmark.json --chart docs/benchmark.svg --readme README.md
figures: bench

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(NPM) run format

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jshm needs Python 3.11 or newer; \
	say which: make PYTHON=python3.12")'

node:
	@npm --version >/dev/null || { echo "the panel and the widget are built with Node 20 and npm: install them"; exit 1; }

# The panel and the widget, built from TypeScript.
$(VENV)/front.stamp: $(FRONT) | python node
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'jupyter-builder>=1.2,<2'
	$(NPM) ci
	$(NPM) run build:prod
	touch $@

# What is built already is not built again by the installation.
$(VENV)/demo.stamp: pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	SKIP_JUPYTER_BUILDER=1 $(PIP) install --editable '.[demo]'
	touch $@

$(VENV)/lab.stamp: pyproject.toml $(VENV)/front.stamp
	SKIP_JUPYTER_BUILDER=1 $(PIP) install --editable '.[demo]'
	touch $@

$(VENV)/test.stamp: pyproject.toml $(VENV)/front.stamp
	SKIP_JUPYTER_BUILDER=1 $(PIP) install --editable '.[test]'
	$(BIN)/python -m tests.support.pythons
	$(BIN)/python -m tests.browser.chromium
	touch $@

# A hub needs its proxy, a program of Node.
$(VENV)/torture.stamp: $(VENV)/test.stamp
	SKIP_JUPYTER_BUILDER=1 $(PIP) install --editable '.[test,torture]'
	npm --loglevel=error install --global --no-audit --no-fund --prefix $(VENV) 'configurable-http-proxy@^5'
	touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp
	SKIP_JUPYTER_BUILDER=1 $(PIP) install --editable '.[test,bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf jshm/labextension jshm/static labextension/lib labextension/node_modules
