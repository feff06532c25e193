# Every target sets up what it needs; BUILD.md tells more.
PYTHON ?=
ifneq ($(PYTHON),)
export TFREC_META_PYTHON := $(PYTHON)
endif
# The Python that starts set-up may be any: set-up itself looks for one that will do.
STARTER := $(firstword $(PYTHON) $(shell command -v python3 || command -v python3.12 || command -v python3.13 || command -v python3.11))
VENV := .venv/bin

.PHONY: help setup browser test demo lint lock clean

help: ## Print these lines.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv from the lock files, and fetch the data of the demo.
	@$(if $(STARTER),$(STARTER) bootstrap.py,echo "error: no python3 on PATH; install Python 3.11, 3.12 or 3.13." >&2; exit 1)

browser: setup ## Get a headless browser for the tests of pages, where there is none on PATH.
	@$(STARTER) bootstrap.py browser

test: setup ## Run the tests.
	@$(STARTER) bootstrap.py browser || echo "Going on; the tests that look at pages are skipped."
	@$(VENV)/python -m pytest $(ARGS)

demo: setup ## From interactions to recommendations over gRPC, on MovieLens-100K.
	@$(VENV)/python -m examples.demo $(ARGS)

lint: setup ## Check style (ruff) and types (mypy).
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

lock: ## Make the lock files anew from setup.py (ARGS=--upgrade for newer versions).
	@$(if $(STARTER),$(STARTER) bootstrap.py lock $(ARGS),echo "error: no python3 on PATH" >&2; exit 1)

clean: ## Remove .venv and what builds and tests leave.
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
