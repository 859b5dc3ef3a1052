# Two commands: `make run` brings up the demo, `make test` passes every check and test.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: run test check unit install install-dev lock clean

run: install ## the daemon with the demo configuration, in the foreground
	$(BIN)/pq run --demo

test: install-dev ## everything: format, lint, types, import contracts, tests
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest

check: install-dev ## all but the tests
	$(BIN)/ruff format --check pq_daemon tests
	$(BIN)/ruff check pq_daemon tests
	$(BIN)/lint-imports
	$(BIN)/mypy

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.lock requirements-build.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-build.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock tests/packages
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	tests/packages
	touch $@

lock: ## renew the hashed locks; needs uv
	for part in "" "--extra dev" "--extra build"; do \
	  name=$$(echo "$$part" | sed 's/--extra /-/'); \
	  uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --no-header --python-version 3.11 $$part pyproject.toml -o requirements$$name.lock || exit 1; \
	done

clean:
	rm -rf $(VENV) data logs dist build
