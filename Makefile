# A fresh Linux machine has Python 3.11 with pip and venv, git and make. Everything else is put into .venv from the hashed
# locks, once: a stamp in .venv remembers each step, so that a second run installs nothing.
PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python
INSTALL = $(BIN)/uv pip install --quiet --python $(PY) --require-hashes
QUIET_PIP = $(PY) -m pip install --quiet --disable-pip-version-check --no-input --require-hashes
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
TEMPLATES = src/portway/host/templates/files
TEMPLATE_COMPILE = $(CURDIR)/$(COMPILE) $(UPGRADE)
# The marks of the tests that `make test` leaves out.
SLOW = slow or conformance or clients or soak or chaos or install
# Client families, each in an environment of its own: .venv-clients/NAME, from locks/client-NAME.txt.
FAMILIES = mcp1 fastmcp3 fastmcp4
CLIENTS = $(FAMILIES:%=.venv-clients/%/.stamp)
NPM = tests/node/node_modules/.package-lock.json
PYTEST = $(BIN)/pytest -n auto --durations=10

.PHONY: help run test test-slow test-all check fix bench conformance soak chaos lock api clean
help:
	@echo 'make run | test | test-slow | test-all | check | fix | bench | conformance | soak | chaos | lock | api | clean   (see CONTRIBUTING.md)'

run: .venv/.project
	$(BIN)/portway up examples/weather --port 8080 --data .cache/run

# The tests of one file run in one process, so that the host they share is started once.
test: .venv/.dev .venv/.project
	$(PYTEST) --dist loadfile -m 'not ($(SLOW))'

test-slow: .venv/.dev .venv/.project $(NPM) $(CLIENTS)
	$(PYTEST) -m '$(SLOW)'

test-all: test test-slow

conformance: .venv/.dev .venv/.project $(NPM)
	$(PYTEST) -m conformance

soak: .venv/.dev .venv/.project
	PORTWAY_SOAK_MINUTES=$${PORTWAY_SOAK_MINUTES:-10} $(BIN)/pytest -n 0 -m soak

# The moments follow a seed; PORTWAY_FUZZ=anew takes another one and prints it.
chaos: .venv/.dev .venv/.project
	$(BIN)/pytest -n 0 -s -m chaos

bench: .venv/.dev .venv/.project .venv-bench/.stamp
	$(PY) -m benchmarks

check: .venv/.dev .venv/.project
	$(PY) .ci/checks

fix: .venv/.dev
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

api: .venv/.dev .venv/.project
	$(PY) .ci/checks/api.py --write
	$(PY) .ci/checks/fields.py --write
	$(PY) .ci/checks/files.py --write

# Versions do not change, except with: make lock UPGRADE=--upgrade
lock: .venv/.uv .venv/.node
	$(COMPILE) $(UPGRADE) --group build -o locks/build.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --extra host --extra pydantic --group build -c locks/build.txt -o locks/host.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --extra host --extra pydantic --group dev -c locks/host.txt -o locks/dev.txt
	$(COMPILE) $(UPGRADE) --group node -o locks/node.txt
	$(COMPILE) $(UPGRADE) --group bench -o locks/bench.txt
	for family in $(FAMILIES); do $(COMPILE) $(UPGRADE) --group client-$$family -o locks/client-$$family.txt || exit 1; done
	cd $(TEMPLATES)/fastmcp && $(TEMPLATE_COMPILE) requirements.in -o requirements.txt
	cd $(TEMPLATES)/fastmcp && $(TEMPLATE_COMPILE) requirements-test.in -c requirements.txt -o requirements-test.txt
	cd $(TEMPLATES)/node && PATH="$(CURDIR)/$(BIN):$$PATH" npm $(if $(UPGRADE),update,install) --package-lock-only \
		--omit-lockfile-registry-resolved --loglevel=error

clean:
	rm -rf .venv .venv-bench .venv-clients .cache build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis tests/node/node_modules

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Portway needs Python 3.11 or later: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# pip brings uv and the build backend; uv, which is an order of magnitude faster, brings the rest.
.venv/.uv: locks/build.txt | $(PY)
	$(QUIET_PIP) -r locks/build.txt
	@touch $@

.venv/.host: locks/host.txt .venv/.uv
	$(INSTALL) -r locks/host.txt
	@touch $@

.venv/.project: pyproject.toml .venv/.host
	$(BIN)/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: locks/dev.txt .venv/.uv
	$(INSTALL) -r locks/dev.txt
	@touch $@

.venv/.node: locks/node.txt .venv/.uv
	$(INSTALL) -r locks/node.txt
	@touch $@

$(NPM): tests/node/package-lock.json .venv/.node
	cd tests/node && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --loglevel=error
	@touch $@

.venv-clients/%/.stamp: locks/client-%.txt .venv/.uv
	$(BIN)/uv venv --quiet --allow-existing --python $(PY) .venv-clients/$*
	$(BIN)/uv pip install --quiet --python .venv-clients/$*/bin/python --require-hashes -r locks/client-$*.txt
	@touch $@

.venv-bench/.stamp: locks/bench.txt .venv/.uv
	$(BIN)/uv venv --quiet --allow-existing --python $(PY) .venv-bench
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r locks/bench.txt
	@touch $@
