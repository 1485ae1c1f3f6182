# Two commands are all a newcomer needs: `make demo` and `make test`. Both set up what they use.

# The first Python on this machine that is new enough; name another with `make demo PYTHON=python3.13`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# So many processes share the tests, and up to twice as many while the processors have little to do: tests wait for what
# they start. A file is not divided, so that what its tests share is started once.
TESTERS ?= 4
PYTEST := $(BIN)/python -m pytest -p tests.testers
# What fails beside others runs once more by itself, and is named.
TESTS := $(BIN)/python -m tests.again
SHARED := --testers $(TESTERS)
# How long each protocol is fuzzed.
SECONDS ?= 60
HOST ?= 127.0.0.1
PORT ?= 8000

# Tests start some hundred processes, each of which would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

# What was begun and failed is begun anew, not taken for finished.
.DELETE_ON_ERROR:

.PHONY: help demo test lint types fast matrix fuzz micro bench bench-quick bench-soak bench-100k bench-soak-workers bench-soak-streams bench-workers bench-stuck bench-http2 bench-attacks docs wheels clean

help: ## Say what can be made
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

demo: $(VENV)/.installed ## Start the demo: chat, notifications, a game
	@$(BIN)/python demo/manage.py migrate --verbosity 0
	@cd demo && exec $(abspath $(BIN))/fairway demo.asgi:application --host $(HOST) --port $(PORT)

test: $(VENV)/.installed-dev lint types ## Run every check: lint, types, tests
	$(TESTS) $(SHARED)

lint: $(VENV)/.installed-dev ## Check style, and that what tests and benchmarks import is there
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.architecture.imported_names

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

fast: $(VENV)/.installed-dev ## Run the tests that take a minute or so together
	$(PYTEST) $(SHARED) -m "not slow and not browser" --hypothesis-profile fast

matrix: $(VENV)/.installed-dev ## Run the fast tests with the other versions of Python and Django that are here
	@$(BIN)/python tests/matrix.py

fuzz: $(VENV)/.installed-dev ## Look for input that breaks a protocol, SECONDS=60 for each (needs atheris: CPython on Linux)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	@for protocol in http1 http2 websocket; do $(BIN)/python -m tests.fuzz.run $$protocol $(SECONDS) || exit 1; done

micro: $(VENV)/.installed-dev ## Run the micro-benchmarks
	@for f in bench/micro/*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

bench: $(VENV)/.installed ## Measure against Channels, Node, uWebSockets and C (50 minutes, an idle machine)
	@$(BIN)/python bench/run.py

bench-quick: $(VENV)/.installed ## See that every benchmark runs (15 minutes; the figures mean little)
	@$(BIN)/python bench/run.py --quick --out quick

bench-soak: $(VENV)/.installed ## Connect and disconnect a million times, and look at the memory
	@$(BIN)/python bench/soak.py

bench-soak-workers: $(VENV)/.installed-dev ## Load four workers for half an hour, and kill one every minute
	@$(BIN)/python bench/soak_workers.py

bench-soak-streams: $(VENV)/.installed-dev ## Load histories and presence for 20 minutes, cut links and kill workers
	@$(BIN)/python bench/soak_streams.py

bench-workers: $(VENV)/.installed ## Measure what workers and metrics cost (6 minutes, an idle machine)
	@$(BIN)/python bench/workers.py

bench-100k: $(VENV)/.installed ## Hold 100,000 connections for ten minutes, then broadcast
	@$(BIN)/python bench/hundred_thousand.py

bench-stuck: $(VENV)/.installed ## Let one of 1,000 members read nothing, and look at the others
	@$(BIN)/python bench/stuck.py

bench-http2: $(VENV)/.installed ## Measure HTTP/2, WebSockets over it and TLS (12 minutes, an idle machine)
	@$(BIN)/python bench/http2.py

bench-attacks: $(VENV)/.installed ## Attack the server in 25 ways, and look at its memory, its log and a neighbour's latency
	@$(BIN)/python bench/attacks.py

docs: $(VENV)/.installed ## Make the documentation site, in build/site, in both languages (a minute)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@rm -rf build/site && mkdir -p build/site && cp docs/site/front.html build/site/index.html
	@for site in en:en zh_CN:zh; do $(BIN)/python -m sphinx -q -W --keep-going -c docs/site -D language=$${site%:*} \
		-d build/doctrees/$${site#*:} . build/site/$${site#*:} || exit 1; done
	@$(BIN)/python docs/site/dead_links.py build/site
	@echo "Open build/site/index.html"

wheels: | $(BIN)/python ## Build Fairway and the distributions of compat/ into dist/
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist \
		. $(dir $(wildcard compat/*/pyproject.toml))
	@ls dist/*.whl

clean: ## Remove the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache dist

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Fairway needs Python 3.11 or later: install it, or name it with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments: on Debian and Ubuntu," \
		"apt install python3-venv; or name another Python with PYTHON=..." >&2; exit 1; }
	@echo "Making an environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing Fairway and what it needs ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Modules are compiled when something uses them, not all of them beforehand.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing Fairway and the tools for its tests ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable . --group dev
	@touch $(VENV)/.installed $@
