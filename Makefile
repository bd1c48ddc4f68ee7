PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

FUZZ_SECONDS ?= 60
FUZZ_FACTOR ?= 20
FUZZ_TARGETS ?= cookie_header request token record index notes forward codec markup proxies log_text

.DEFAULT_GOAL := help
.PHONY: help venv demo screenshots test test-minimum test-pythons lint types docs package coverage bench fuzz mutation clean

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

RUN := $(if $(COVERAGE),coverage run -m pytest,pytest)

test: venv ## Run the tests (COVERAGE=1: and fail if a branch of ours isn't reached)
	$(if $(COVERAGE),rm -f .coverage .coverage.*)
	$(BIN)/python -m $(RUN) $(PYTEST_ARGS)
	$(if $(COVERAGE),$(BIN)/python -m coverage combine --quiet)
	$(if $(COVERAGE),$(BIN)/python -m coverage report --skip-covered)

MINIMUM := .venv-minimum
MINIMUM_TESTS := $(filter-out $(addprefix tests/test_,benchmarks.py docs.py probe.py \
	interleavings.py),$(wildcard tests/test_*.py)) tests/frameworks/test_flask.py \
	$(addprefix tests/stores/test_,memory.py redis.py url.py)

$(MINIMUM)/.installed: pyproject.toml tests/minimum.py
	rm -rf $(MINIMUM)
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet $$($(PYTHON) tests/minimum.py) pytest hypothesis
	$(MINIMUM)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

test-minimum: $(MINIMUM)/.installed ## Run tests with the lowest versions that pyproject.toml allows
	$(MINIMUM)/bin/python -m pytest -q -k "not 1200_racing and not of_proxyfix" $(MINIMUM_TESTS)

# The npm package pyodide carries a CPython in WebAssembly, each version its own. Without threads,
# files' locks and C extensions: so these are the tests of what has no need of them.
PYTHONS ?= 0.27.7 0.29.4 314.0.7
PYTHONS_TESTS := $(filter-out $(addprefix tests/test_,benchmarks.py cli.py docs.py doctor.py \
	lint_wall.py minimum.py probe.py encryption.py interleavings.py),$(wildcard tests/test_*.py)) \
	$(addprefix tests/stores/test_,memory.py packing.py) tests/frameworks/test_flask.py

build/pythons/.installed: pyproject.toml Makefile
	rm -rf build/pythons
	# Later ones of hypothesis and redis-py want C extensions, or more of ssl than a name.
	$(PYTHON) -m pip install --quiet --target build/pythons/site "hypothesis<6.148" "redis==5.0.1" \
		pytest tzdata itsdangerous werkzeug flask
	set -e; for version in $(PYTHONS); do \
		npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/pythons/$$version pyodide@$$version; \
	done
	touch $@

test-pythons: build/pythons/.installed ## Run tests with CPython 3.12, 3.13 and 3.14 in WebAssembly (needs npm)
	set -e; for version in $(PYTHONS); do \
		node tests/pythons/run.mjs build/pythons/$$version . build/pythons/site -q $(PYTHONS_TESTS); \
	done

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

coverage: ## Run the tests and show which branches they don't reach
	$(MAKE) test COVERAGE=1

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
	rm -rf $(VENV) $(DEMO) $(MINIMUM) dist build .mypy_cache .ruff_cache .pytest_cache docs/_build
