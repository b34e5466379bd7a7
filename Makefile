# The chores of the house. Everything runs in .venv, which is set up by itself and renewed when its inputs change.

SHELL := /bin/bash
PYTHON ?= python3
# Where it is set, each process compiles all of PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE
TORCH ?= 2.13.0
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help quickstart browser test test-slow mutants coverage attack lint format docs bench lock clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

# The stamp is touched last, so that a set-up that was cut off is taken up again. Compiling all of 3 GB takes as long as
# installing it; Python compiles what is imported.
.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Forethought needs Python 3.11 or newer, but \
	$(PYTHON) is " + sys.version.split()[0] + ": say make PYTHON=/path/to/python3.11")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile -r requirements.lock
	.venv/bin/python -m pip install --quiet -e . --no-deps
	@touch $@

quickstart: .venv/.ready  ## train two models on a simulated shop, compare them, explain the better one: three minutes at most
	@rm -rf quickstart
	forethought simulate --out quickstart/shop
	forethought doctor quickstart/shop
	forethought train sasrec --data quickstart/shop --out quickstart/sasrec --features auto --evidence auto --effort fast --epochs 8
	forethought train dtrec --data quickstart/shop --out quickstart/dtrec --features auto --evidence auto --effort fast --epochs 8 \
	--most-clusters 200
	python docs/quickstart.py quickstart/shop quickstart/sasrec quickstart/dtrec quickstart

# The explorer page is tested in a real browser where Debian's is to be had; elsewhere its tests are skipped, and say so.
browser:  ## Chromium for the tests of the explorer page, from Debian
	@if { command -v chromium && command -v chromedriver; } > /dev/null || ! command -v apt-get > /dev/null || [ "$$(id -u)" != 0 ]; then exit 0; fi; \
	apt-get update -qq -o Acquire::http::Timeout=30 && DEBIAN_FRONTEND=noninteractive timeout 400 apt-get install -y -qq --no-install-recommends \
	chromium chromium-driver > /dev/null || echo "Chromium could not be installed: the page is not tested."

# All checks run even where one fails; any failure makes the whole fail. Types take a minute of one core, so they are
# checked beside the tests, and what is said of them is kept until these have ended.
# One thread a process: two processes with two threads each would fight over two cores. Each begins with one half, so that
# what a file's tests share is made by one of them alone.
test: .venv/.ready browser  ## all checks and tests, as continuous integration runs them
	@status=0; said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
	$(MAKE) --no-print-directory --keep-going --output-sync=target lint > "$$said" 2>&1 & lint=$$!; \
	OMP_NUM_THREADS=1 pytest -n 2 --dist worksteal -m "not slow" --durations=10 || status=1; \
	wait $$lint || status=1; cat "$$said"; \
	exit $$status

# Not in every run: measuring slows the tests down.
coverage: .venv/.ready  ## which lines and branches the tests reach
	OMP_NUM_THREADS=1 pytest -n 2 -m "not slow" --cov=forethought --cov-branch --cov-report=term-missing:skip-covered

test-slow: .venv/.ready  ## the tests that need minutes each, and the mutants
	@status=0; \
	pytest -m slow --durations=10 || status=1; \
	$(MAKE) --no-print-directory mutants || status=1; \
	exit $$status

mutants: .venv/.ready  ## break the lines listed in tests/mutants one by one: a test must see each
	PYTHONPATH=tests python -m mutants

# On a folder of its own, with two processes: kills, flipped bits, malformed and hostile inputs; no part of `make test`.
attack: .venv/.ready  ## attack it for half an hour and report; ATTACK=quick for a few minutes
	PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} python -m attack $(if $(filter quick,$(ATTACK)),--quick)

lint: lint-style lint-format lint-types lint-imports  ## style, format, types and who imports whom

.PHONY: lint-style lint-format lint-types lint-imports
lint-style: .venv/.ready
	ruff check .
lint-format: .venv/.ready
	ruff format --check .
lint-types: .venv/.ready
	pyright
lint-imports: .venv/.ready
	lint-imports --no-logo

format: .venv/.ready  ## mend what can be mended by itself
	ruff check --fix .
	ruff format .

# A link that leads nowhere, a docstring that cannot be read or a page that nothing names makes it fail; so do the tests.
docs: .venv/.ready  ## the documentation as a site in site/, legible offline
	python -m sphinx -b html -q --fail-on-warning --keep-going docs site
	@echo "site/index.html is the first page."

bench: .venv/.ready  ## measure against this machine's floors and three peers; QUICK=1: no peers; OUT=DIR or WRITE=1 keep it
	python benchmarks/bench.py $(if $(QUICK),--quick) $(if $(OUT),--out $(OUT)) $(if $(WRITE),--write)

# A clean resolution of everything the tests need; torch is named exactly, and +cpu is not part of its release.
lock:  ## renew requirements.lock
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	$(PYTHON) -m venv "$$work/venv"; \
	"$$work/venv/bin/python" -m pip install --quiet "torch==$(TORCH)" -e ".[data,text,report,track,serve,export,hub,tune,docs,dev]"; \
	{ echo "# Everything the tests need, pinned. Made by \`make lock\`; do not edit."; \
	  "$$work/venv/bin/python" -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > "$$work/lock"; \
	cp "$$work/lock" requirements.lock; wc -l requirements.lock

clean:  ## remove what the tools leave behind; .venv and your runs stay
	rm -rf quickstart site dist build .coverage .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
