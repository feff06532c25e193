# Every target sets up what it needs; BUILD.md tells more.
PYTHON ?=
ifneq ($(PYTHON),)
export TFREC_META_PYTHON := $(PYTHON)
endif
# The Python that starts set-up may be any: set-up itself looks for one that will do.
STARTER := $(firstword $(PYTHON) $(shell command -v python3 || command -v python3.12 || command -v python3.13 || command -v python3.11))
VENV := .venv/bin

.PHONY: help setup browser test test-airflow demo pipeline airflow lint lock clean

help: ## Print these lines.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv from the lock files, and fetch the data of the demo.
	@$(if $(STARTER),$(STARTER) bootstrap.py,echo "error: no python3 on PATH; install Python 3.11, 3.12 or 3.13." >&2; exit 1)

browser: setup ## Get a headless browser for the tests of pages, where there is none on PATH.
	@$(STARTER) bootstrap.py browser

test: setup ## Run the tests.
	@$(STARTER) bootstrap.py browser || echo "Going on; the tests that look at pages are skipped."
	@$(VENV)/python -m pytest $(ARGS)

test-airflow: setup ## Run the pipeline on a real Airflow 3, end to end; takes minutes.
	@$(STARTER) bootstrap.py airflow
	@$(VENV)/python -m pytest tests/airflow/end_to_end.py $(ARGS)

demo: setup ## From interactions to recommendations over gRPC, on MovieLens-100K.
	@$(VENV)/python -m examples.demo $(ARGS)

pipeline: setup ## The TFX pipeline on MovieLens-100K, and questions to what it pushed.
	@$(VENV)/python -m examples.pipeline $(ARGS)

airflow: setup ## Start Airflow 3 on this machine, with the pipeline on MovieLens-100K in place.
	@$(STARTER) bootstrap.py airflow
	@$(VENV)/python -m examples.airflow $(ARGS)

lint: setup ## Check style (ruff) and types (mypy).
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

lock: ## Make the lock files anew from setup.py (ARGS=--upgrade for newer versions).
	@$(if $(STARTER),$(STARTER) bootstrap.py lock $(ARGS),echo "error: no python3 on PATH" >&2; exit 1)

clean: ## Remove .venv, .venv-airflow and what builds and tests leave.
	rm -rf .venv .venv-airflow build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
