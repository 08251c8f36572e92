# `make run` starts the whole system, `make test` tests it. Both need Python 3.11 and nothing else. `make help` has more.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.requirements
DEV_STAMP := $(VENV)/.requirements-dev
# Nothing is compiled twice: pytest keeps what it made of the tests, and every process what it imports.
unexport PYTHONDONTWRITEBYTECODE
RESOLVE := $(BIN)/uv pip compile --upgrade --quiet --no-emit-index-url --no-emit-find-links --python-version 3.11

.PHONY: run test test-security check proof drill chaos bench translations requirements clean help

run: $(RUN_STAMP) ## start the whole system on http://127.0.0.1:8000 (PORT, DATA_DIR)
	@exec $(BIN)/python -m gateway.embedded

test: $(DEV_STAMP) ## run the tests (ARGS goes to pytest)
	$(BIN)/python -m pytest $(ARGS)

test-security: $(DEV_STAMP) ## run the tests of sign-in, sessions and permissions alone (ARGS)
	$(BIN)/python -m pytest -m security $(ARGS)

check: $(DEV_STAMP) ## everything that can be checked without running: style, types, floors, schema, manifests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	DJANGO_SETTINGS_MODULE=gateway.settings.test $(BIN)/python manage.py makemigrations --check --dry-run
	DJANGO_SETTINGS_MODULE=gateway.settings.test $(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	deploy/throwaway.sh $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

proof: $(DEV_STAMP) ## the slow tests: proofs by chaos and load, minutes long (ARGS)
	$(BIN)/python -m pytest -m slow -n 1 $(ARGS)

drill: $(DEV_STAMP) ## let everything fail while commands run: none may be lost or done twice (ARGS, DATABASE_URL)
	@exec $(BIN)/python -m tests.drill $(ARGS)

chaos: $(DEV_STAMP) ## kill anything at any moment while 500 commands run, and hold every promise (ARGS, DATABASE_URL)
	@exec $(BIN)/python -m tests.drill.chaos $(ARGS)

bench: $(DEV_STAMP) ## measure the speed on PostgreSQL and Redis, beside limits of this machine (ARGS, DATABASE_URL, REDIS_URL)
	@exec $(BIN)/python -m benchmarks.run $(ARGS)

translations: $(DEV_STAMP) ## collect the strings into locale/*/django.po and compile it
	$(BIN)/python locale/messages.py

requirements: $(DEV_STAMP) ## pin the newest releases that requirements*.in allow
	$(RESOLVE) requirements.in -o requirements.txt
	$(RESOLVE) requirements-dev.in -o requirements-dev.txt

clean: ## remove all that can be made again; the data in var/ stays
	rm -rf $(VENV) staticfiles .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info[:2] == (3, 11) else "The gateway needs Python 3.11, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@
