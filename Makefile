# make run      index a directory tree under supervision (TREE=path; the Python standard library by default)
# make test     the tests, in their default selection
# make test SELECT="tests/core -k stop"   some of them
# make check    what CI runs: lint, types, architecture, tests with branch coverage, docs
# make fix      mends what can be mended
# make pythons  gets those of the supported Pythons that the machine lacks, into .pythons; prints a path to each
# make slow     the long campaigns
# make tables   tries what an injection leaves half done, and which blocked calls it ends, and writes the tables of docs/
# make bench    the benchmarks, in ten minutes; writes docs/benchmarks.md
# make bench-compare REV=main~5   what has changed since a revision, on the main paths (PATHS="run start", ROUNDS=30, CPU=1)
# make instructions  how many instructions the main paths take, beside what is kept; needs valgrind
# make screenshots  the pictures of the page, into docs/: a browser takes them of a service that runs for a minute
# make docs     the documentation, into docs/_build/html

PYTHON ?= $(shell for p in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
TREE ?=
PYTHONS ?= $(or $(wildcard .venv-3.*/bin/python),$(BIN)/python)

.PHONY: run test check lint types imports cover fix pythons slow tables bench bench-compare instructions screenshots docs clean

run: $(VENV)/run.done
	@$(BIN)/python examples/index_tree.py $(if $(TREE),"$(TREE)")

test: $(VENV)/test.done
	$(BIN)/python -m pytest -n 4 $(SELECT) $(if $(COVER),--cov --cov-report=)

check: lint types imports cover instructions docs

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.done
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(VENV)/dev.done
	$(BIN)/lint-imports

# Most tests wait for something: four processes at a time keep two cores busy.
# Python 3.11 hangs where a tracer is active while an exception waits for a blocked thread. From 3.14 on, what coverage
# does at each line is Python code, which injections strike. So neither is measured, and of those in between one will do.
cover: $(VENV)/dev.done
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))'; then \
		$(BIN)/coverage erase && $(MAKE) test COVER=1 && $(BIN)/coverage report; \
	else $(MAKE) test; fi

fix: $(VENV)/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pythons:
	@.ci/pythons

slow: $(VENV)/test.done
	$(BIN)/python -m pytest -m slow --timeout 3600

# On each Python that has a venv of its own here, as .ci/run makes them.
tables: $(VENV)/test.done
	$(BIN)/python docs/leaks.py $(PYTHONS)
	$(BIN)/python docs/blocked.py $(PYTHONS)

bench: $(VENV)/bench.done
	$(BIN)/python -m benchmarks

bench-compare: $(VENV)/bench.done
	@test -n "$(REV)" || { echo "Compared with which revision? make bench-compare REV=..."; exit 1; }
	$(BIN)/python -m benchmarks.compare "$(REV)" $(PATHS) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CPU),--cpu)

# Does not depend on what else the machine does. Without valgrind it says so, and goes on.
instructions: $(VENV)/test.done
	$(BIN)/python -m benchmarks.instructions

screenshots: $(VENV)/test.done
	SUPERVISOR_PICTURES="$(CURDIR)/docs" $(BIN)/python -m pytest -m slow tests/browser/test_pictures.py

docs: $(VENV)/dev.done
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv .venv-* .pythons docs/_build build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/pip.done:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

# One rule for each dependency group of pyproject.toml.
$(VENV)/%.done: $(VENV)/pip.done pyproject.toml
	$(BIN)/python -m pip install --quiet --editable . --group $*
	@touch $@
