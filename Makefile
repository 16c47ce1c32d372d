# Everything runs in .venv, which is made on the first call. PYTHON=python3.12 picks another one.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test lint docs format lock clean
help:
	@echo "make demo    the whole pipeline on generated people, from clips to an emotion model and a report"
	@echo "make test    all tests"
	@echo "make lint    ruff, formatter, type checker"
	@echo "make docs    the documentation site, in build/site, with its links checked"
	@echo "make setup   only the environment and the command fer-jax, in .venv"
	@echo "make clean   remove .venv and work/"

setup: .venv/command
# Its own step, since images install the packages before the source is there.
.venv/command: .venv/run pyproject.toml setup.py
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "error: fer_jax needs Python 3.11 to 3.13; give one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/run requirements-dev.txt requirements-export.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-export.txt
	@touch $@

demo: .venv/run
	$(BIN)/python launch.py --config=configs/demo.py --workdir=work/demo

# PYTEST="--no-skips" makes a skipped test a failure.
test: .venv/dev .venv-beam/done
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/beam $(PYTEST)
	JAX_PLATFORMS=cpu .venv-beam/bin/python -m pytest tests/beam $(PYTEST)

# Beam has an environment of its own, since it needs older versions of some packages.
.venv-beam/done: requirements-beam.txt
	$(PYTHON) -m venv .venv-beam
	.venv-beam/bin/pip install --quiet --disable-pip-version-check -r requirements-beam.txt
	@touch $@

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site is built in an environment of its own, since only the builder needs it.
.venv-docs/done: requirements-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

docs: .venv/run .venv-docs/done
	$(BIN)/python docs/assemble_site.py --pages=build/docs
	.venv-docs/bin/zensical build --clean --strict
	$(BIN)/python docs/assemble_site.py --check=build/site

format: .venv/dev
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# The pins, for all platforms and Python 3.11 to 3.13 at once. Needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  pyproject.toml --extra serve --extra test -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  requirements-dev.in -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  requirements-docs.in -o requirements-docs.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  pyproject.toml --extra test requirements-beam.in -o requirements-beam.txt

clean:
	rm -rf .venv .venv-beam .venv-docs .venv-wheel build work
