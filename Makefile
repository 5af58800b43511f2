# Every target sets up what it needs; the machine has to have only Python 3.11+ and make.
#
#   make run     play one sandbox's life offline; with DISCORD_TOKEN set, run the bot (KEEP=1 stays up)
#   make test    all tests, on real servers started from wheels (COVERAGE=1 measures, and holds to, the domain's)
#   make check   lint, formatting, strict types, import directions
#   make docs    write the pages that are made from the code
#   make chaos   faults of every kind while events flow, compared event by event (ARGS="--seed 7 --only redis")
#   make bench   reproducible measurements (ARGS="throughput latency" for some of them)
#   make format  rewrite the code in the project's format
#   make lock    refresh the locked dependencies
#   make clean   remove the environment, caches and local data

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PACKAGES := bot/sandbox_bot cogs/sandbox_cogs sandbox_core discord_sim
# The domain's coverage gate, in per cent of lines and branches.
COVERAGE_MIN := 95
MEASURED := --cov=sandbox_core --cov-branch --cov-report=term --cov-fail-under=$(COVERAGE_MIN)

export KEEP
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests and benchmarks start hundreds of processes; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check docs bench format lock clean setup

run: $(STAMP)
	@if [ -n "$$DISCORD_TOKEN" ] || grep -qs '^DISCORD_TOKEN=..*' .env; then \
		exec $(BIN)/sandboxctl run --embedded --data-dir .local; \
	else \
		exec $(BIN)/python -m sandbox_bot.tour; \
	fi

# Each process has servers of its own; there are more than cores, as many tests wait for other processes. A
# file's tests stay together, and files go in the order of the collection (see tests/conftest.py).
# Measuring coverage makes everything half as slow again, so it has to be asked for.
WORKERS ?= 6

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),$(MEASURED)) $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python docs/generate.py

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The second file is what deploy/Dockerfile installs: the same versions without tests and embedded servers.
lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --all-extras $(UV_FLAGS) --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml $(UV_FLAGS) --constraint requirements.lock --output-file deploy/requirements.lock

UV_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

clean:
	rm -rf $(VENV) .local build dist .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
