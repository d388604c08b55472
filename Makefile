# make demo   the whole path on a small example
# make test   the tests; make test-slow the long ones; make coverage the lines that the tests reach, in twice the time
# make mutation  how many small errors in formats, geometry and metrics their tests notice, in minutes
# make check  lint, types and import contracts
# make docs   the documentation site in build/site
# make long   the long runs of benchmarks/queue.yaml, for hours; stop it at any time and start it again
PYTHON ?= python3
BIN := .venv/bin
CPUS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test test-slow coverage mutation check docs long clean

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
