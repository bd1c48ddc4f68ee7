PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

FUZZ_SECONDS ?= 60
FUZZ_FACTOR ?= 20
FUZZ_TARGETS ?= cookie_header request token record index notes forward codec markup proxies log_text

.DEFAULT_GOAL := help
.PHONY: help venv demo screenshots test lint types docs package coverage bench fuzz mutation clean

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

venv: $(VENV)/.installed ## Make the virtual environment with all that tests and linters need

DEMO := .venv-demo

$(DEMO)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --editable ".[redis,crypto]" "flask>=3.0" "waitress>=3.0.1"
	touch $@

demo: $(DEMO)/.installed ## Start the example shop and print its address
	cd examples && ../$(DEMO)/bin/python -m flask_app $(PORT)

screenshots: venv ## Write docs/images/*.png from the example shop (needs chromium and chromedriver)
	$(BIN)/python tests/screenshots.py

test: venv ## Run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: venv ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## Check types
	$(BIN)/mypy
	$(BIN)/pyright

docs: venv ## Build the documentation; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

package: venv ## Build the wheel, install it into a fresh environment, and try it without extras
	rm -rf dist build/fresh
	$(BIN)/python -m build --quiet --outdir dist .
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet dist/*.whl
	build/fresh/bin/python -W error -c "import wsgi_sessions, wsgi_sessions.stores; print('wsgi-sessions', wsgi_sessions.__version__)"
	build/fresh/bin/wsgi-sessions secret >/dev/null
	build/fresh/bin/python -m pip install --quiet pyright flask redis cryptography orjson
	cd build/fresh && PATH="$$PWD/bin:$$PATH" bin/python -m pyright --verifytypes wsgi_sessions --ignoreexternal > types.txt || (cat types.txt; exit 1)
	@grep score build/fresh/types.txt

coverage: venv ## Run the tests and show which branches they don't reach
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered

bench: venv ## Measure ours against the peers; writes docs/benchmarks.md (BENCH_ARGS=--quick: a look)
	$(BIN)/python -m pip install --quiet --group bench
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(BENCH_ARGS)

fuzz: venv ## Look long for input that breaks us: each target FUZZ_SECONDS, random tests FUZZ_FACTOR times as long
	$(BIN)/python -m pip install --quiet --group fuzz
	mkdir -p build/fuzz
	set -e; for target in $(FUZZ_TARGETS); do \
		$(BIN)/python tests/fuzz/run.py $$target -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/$$target- ; \
	done
	WSGI_SESSIONS_FUZZ=$(FUZZ_FACTOR) $(BIN)/python -m pytest tests/fuzz tests/test_session_model.py tests/security/test_browser_jar.py

mutation: venv ## Change the code in small ways; each change must fail a test (MODULES="lifecycle signing": those alone)
	$(BIN)/python -m pip install --quiet --group mutation
	PYTHONPATH=tests $(BIN)/python -m mutation $(MODULES)

clean: ## Remove what was made
	rm -rf $(VENV) $(DEMO) dist build .mypy_cache .ruff_cache .pytest_cache docs/_build
