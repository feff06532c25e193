# Every target sets up what it needs. BUILD.md describes them.
PYTHON ?=
ifneq ($(PYTHON),)
export TFREC_META_PYTHON := $(PYTHON)
endif
# Any Python can start set-up: set-up itself looks for a suitable one.
STARTER := $(firstword $(PYTHON) $(shell command -v python3 || command -v python3.12 || command -v python3.13 || command -v python3.11))
VENV := .venv/bin
LOCKS := requirements airflow bootstrap

# Two processes; tests that share a session fixture run in the same one (tests/conftest.py).
PYTEST := $(VENV)/python -m pytest --numprocesses 2 --dist loadgroup

.PHONY: help setup browser test test-all test-airflow coverage demo pipeline airflow docs settings lint \
	lock sbom audit licences clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Create .venv from the lock files, and fetch the data of the demo.
	@$(if $(STARTER),$(STARTER) bootstrap.py,echo "error: no python3 on PATH; install Python 3.11, 3.12 or 3.13." >&2; exit 1)

browser: setup ## Fetch a headless browser for the tests of pages, if none is on PATH.
	@$(STARTER) bootstrap.py browser

test: setup ## Run the quick tests, which cover every module; at most ten minutes on two cores.
	@$(STARTER) bootstrap.py browser || echo "Continuing without the tests that open pages."
	@$(PYTEST) -m "not slow and not pipeline and not quality" $(ARGS)

test-all: setup ## Run all tests.
	@$(STARTER) bootstrap.py browser || echo "Continuing without the tests that open pages."
	@$(PYTEST) $(ARGS)

coverage: setup ## Run all tests and report the share of lines that they execute.
	@$(PYTEST) --cov --cov-report=term --cov-report=html $(ARGS)

test-airflow: setup ## Run the pipeline on a real Airflow 3, end to end; takes minutes.
	@$(STARTER) bootstrap.py airflow
	@$(VENV)/python -m pytest tests/airflow/end_to_end.py $(ARGS)

demo: setup ## From interactions to recommendations over gRPC, on MovieLens-100K.
	@$(VENV)/python -m examples.demo $(ARGS)

pipeline: setup ## Run the TFX pipeline on MovieLens-100K, and query the pushed model.
	@$(VENV)/python -m examples.pipeline $(ARGS)

airflow: setup ## Start Airflow 3 on this machine, with the MovieLens-100K pipeline installed.
	@$(STARTER) bootstrap.py airflow
	@$(VENV)/python -m examples.airflow $(ARGS)

docs: setup ## Build the documentation into docs/_build/html; a broken link is an error.
	@$(VENV)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html $(ARGS)
	@echo "docs/_build/html/index.html"

settings: setup ## Write the JSON Schema and the page of all settings of config files.
	@$(VENV)/python -m tfrec_meta.pipeline.configs.reference docs/settings.md

lint: setup ## Check style (ruff) and types (mypy).
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

lock: ## Derive the lock files from setup.py (ARGS=--upgrade takes newer versions).
	@$(if $(STARTER),$(STARTER) bootstrap.py lock $(ARGS),echo "error: no python3 on PATH" >&2; exit 1)

sbom: setup ## Write software bills of materials (CycloneDX), one per lock file.
	@mkdir -p build
	@for name in $(LOCKS); do \
		$(VENV)/cyclonedx-py requirements --of JSON -o build/$$name.sbom.json $$name.lock || exit; \
		echo "build/$$name.sbom.json"; done

audit: setup ## Check the lock files for known vulnerabilities; needs access to a database.
	@for name in $(LOCKS); do \
		$(VENV)/pip-audit --strict --disable-pip --require-hashes -r $$name.lock $(ARGS) || exit; done

licences: setup ## List the licences of all locked packages, with those of Airflow.
	@$(STARTER) bootstrap.py airflow
	@for venv in .venv .venv-airflow; do echo "$$venv:"; \
		$(VENV)/pip-licenses --python=$$venv/bin/python --from=mixed --with-urls --order=license \
		$(ARGS) || exit; done

clean: ## Remove .venv, .venv-airflow and what builds and tests write.
	rm -rf .venv .venv-airflow build dist docs/_build htmlcov .coverage *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
