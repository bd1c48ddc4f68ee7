PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= cookie_header request token record owner_list notes codec markup proxies log_text old_pickle

.DEFAULT_GOAL := help
.PHONY: help venv demo screenshots test check everything coverage carry-over-worlds test-minimum test-newest \
	test-pythons test-hard test-all static others minimum newest free-threaded model lint types docs package bench fuzz mutation clean

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

GROUP ?= dev

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group $(GROUP)
	touch $@

venv: $(VENV)/.installed ## Make the virtual environment with all that tests and linters need

DEMO := .venv-demo

$(DEMO)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --editable ".[redis,sql,crypto]" "flask>=3.0" "waitress>=3.0.1"
	touch $@

demo: $(DEMO)/.installed ## Start the example shop and print its address (PORT=8001: at that port)
	cd examples && ../$(DEMO)/bin/python -m flask_app $(PORT)

screenshots: venv ## Write docs/images/*.png from the example shop (needs chromium and chromedriver)
	$(BIN)/python tests/screenshots.py

# Each worker takes a stretch of the tests, so that it starts a server once, and helps the others
# when it is done. ARGS: which tests, and any other option of pytest.
PYTEST := pytest --quiet --numprocesses auto --dist worksteal -o console_output_style=classic
QUICK := -m "not slow and not programs"
# Two workers for each core: tests of servers and browsers wait half of their time.
BUSY := --numprocesses $(shell expr "$$(getconf _NPROCESSORS_ONLN)" \* 2)

test: venv ## Run the quick tests, in two minutes (ARGS="tests/test_cookie.py -k name": those alone)
	$(BIN)/python -m $(PYTEST) $(QUICK) $(ARGS)

TIMES ?= build/times
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# How long each part took is said at the end, also when one fails.
timed-%:
	@mkdir -p build; echo "== make $*"
	@start=$$(date +%s); status=0; $(MAKE) --no-print-directory $* || status=$$?; \
		printf "%s s\tmake %s\n" $$(($$(date +%s) - start)) $* >> $(TIMES); exit $$status

# Runs these parts two at a time: each keeps one core busy, or waits now and then.
define together
	@$(MAKE) --no-print-directory -j2 $(SYNC) $(addprefix timed-,$(1))
endef

# Runs these parts one after the other.
define parts
	@times=build/times-$@; rm -f $$times; begun=$$(date +%s); status=0; \
		$(MAKE) --no-print-directory TIMES=$$times $(addprefix timed-,$(1)) || status=$$?; \
		test $$status = 0 && echo "== Done:" || echo "== Failed:"; \
		cat $$times; printf "%s s\tin all\n" $$(($$(date +%s) - begun)); exit $$status
endef

check: venv ## Run all that CI runs, in a quarter of an hour
	$(call parts,static coverage others)

# With the environments that `others` needs.
static: venv
	$(call together,package carry-over-worlds types newest minimum docs lint)

others: venv
	$(call together,test-newest model test-minimum)

everything: ## Before a release: also every order, long races, fuzzing, mutation, other Pythons
	$(call parts,check test-hard test-pythons free-threaded fuzz mutation)

MODEL_SECONDS ?= 60
everything: export MODEL_SECONDS = 600
everything: export WSGI_SESSIONS_REQUIRE := $(WSGI_SESSIONS_REQUIRE),java

# A fifth for each of the five kinds of stores, two of them at once on two cores.
# The same seeds for each commit, so that a finding is the commit's doing; `make everything` draws
# them anew.
MODEL_FIRST ?= 1
everything: export MODEL_FIRST =

model: venv ## Look for a scenario that breaks a promise, in MODEL_SECONDS (MODEL_FIRST=: with fresh seeds)
	WSGI_SESSIONS_MODEL_FIRST=$(MODEL_FIRST) WSGI_SESSIONS_MODEL_SECONDS=$$(($(MODEL_SECONDS) / 5)) $(BIN)/python -m $(PYTEST) -k no_random tests/model

coverage: venv ## Run all tests once, and fail if a line or a branch of ours isn't reached
	rm -f .coverage .coverage.*
	WSGI_SESSIONS_EFFORT=check $(BIN)/python -m coverage run -m $(PYTEST) $(BUSY) $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	rm -f .coverage.* # what processes left that were killed while they wrote it
	$(BIN)/python -m coverage report --skip-covered

test-hard: venv ## Run all tests as hard as they can try
	WSGI_SESSIONS_EFFORT=everything $(BIN)/python -m $(PYTEST) $(ARGS)

carry-over-worlds: venv ## Install the session systems that sessions are carried over from (into build/carry-over)
	$(BIN)/python tests/carry_over/old.py

MINIMUM := .venv-minimum
# What is made of plain Python alone is the same with any version of what it doesn't use.
MINIMUM_TESTS := $(filter-out $(patsubst %,tests/test_%.py,bad_days benchmarks contributing decisions \
	docs effort faulty_store interleavings lint_wall machine measured minimum mutation_survivors notes probe \
	proxied_sessions proxy_advice proxy_parsing rotation troubleshooting),$(wildcard tests/test_*.py)) tests/cli tests/device_binding \
	$(patsubst %,tests/frameworks/test_%.py,bottle django django_settings falcon flask integration pyramid) \
	$(addprefix tests/stores/,sql test_memory.py test_redis.py test_redis_client.py \
	test_redis_connection.py test_url.py)
# The oldest redis-py leaves sockets that couldn't connect to the garbage collector.
MINIMUM_WARNINGS := -W ignore::pytest.PytestUnraisableExceptionWarning

$(MINIMUM)/.installed: pyproject.toml tests/minimum.py
	rm -rf $(MINIMUM)
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet $$($(PYTHON) tests/minimum.py) pytest pytest-xdist hypothesis
	$(MINIMUM)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

minimum: $(MINIMUM)/.installed

test-minimum: $(MINIMUM)/.installed ## Run quick tests with the lowest versions that pyproject.toml allows
	$(MINIMUM)/bin/python -m $(PYTEST) $(QUICK) -k "not of_proxyfix" $(MINIMUM_WARNINGS) $(MINIMUM_TESTS)
	$(MINIMUM)/bin/python -m $(PYTEST) -m programs tests/stores/sql/test_sql_table.py

# Runs quick tests with these Pythons, each in an environment of its own.
define with_pythons
	@set -e; pythons="$$($(PYTHON) tests/other_pythons.py | $(1))"; \
	test -n "$$pythons" || echo "This machine has no newer Python."; \
	for python in $$pythons; do \
		$$python --version; \
		$(MAKE) --no-print-directory $(2) PYTHON=$$python VENV=.venv-$${python##*/} GROUP=test; \
	done
endef

newest:
	$(call with_pythons,sed -n 1p,venv)

test-newest: ## Run quick tests with the newest Python of this machine
	$(call with_pythons,sed -n 1p,test)

test-pythons: ## Run all tests with every newer Python of this machine
	$(call with_pythons,cat,test-all)

test-all: venv
	WSGI_SESSIONS_EFFORT=check $(BIN)/python -m $(PYTEST) $(ARGS)

# A release of Debian whose source package of Python is built, and where that is kept.
SUITE ?= trixie
FREE_PYTHON ?= build/free-threaded/bin/python3.13t
FREE := .venv-free-threaded
FREE_TESTS := $(addprefix tests/stores/,test_memory.py test_file.py test_redis.py sql/test_sql_contract.py \
	test_request_races.py) tests/test_interleavings.py tests/model
# For Python 3.13 without the GIL there is no cryptography, and so no encryption. SQLite stands for the
# other databases, so that their drivers needn't be there.
# And redis-py's sockets that a test leaves open wait for the garbage collector, which without the
# GIL comes later: in the middle of some other test.
FREE_LEFT_OUT := -W ignore::pytest.PytestUnraisableExceptionWarning \
	-k "not postgresql and not mariadb and not (test_model and (encrypted or client))"

build/free-threaded/bin/python3.13t:
	$(PYTHON) tests/free_threaded.py --suite $(SUITE) build/free-threaded

$(FREE)/.installed: pyproject.toml $(FREE_PYTHON)
	rm -rf $(FREE)
	$(FREE_PYTHON) -m venv $(FREE)
	$(FREE)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@# The newest hypothesis has no wheel for it, and building it takes Rust.
	$(FREE)/bin/python -m pip install --quiet --prefer-binary --editable . --group free-threaded
	touch $@

free-threaded: $(FREE)/.installed ## Run contract, races, interleavings and model without the GIL (FREE_PYTHON=path: with that python3.13t)
	PYTHONPATH=tests WSGI_SESSIONS_EFFORT=$${WSGI_SESSIONS_EFFORT:-check} $(FREE)/bin/python -m $(PYTEST) \
		-p plugins.no_gil $(FREE_LEFT_OUT) $(FREE_TESTS) $(ARGS)
	PYTHONPATH=tests $(FREE)/bin/python -m benchmarks.threads

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
	build/fresh/bin/python -m pip install --quiet "$$(echo dist/*.whl)[redis,valkey,flask,django,pyramid,bottle,falcon,fast,crypto,postgresql,mysql,carry-over]" pyright django-types
	cd build/fresh && PATH="$$PWD/bin:$$PATH" bin/python -m pyright --verifytypes wsgi_sessions --ignoreexternal > types.txt || (cat types.txt; exit 1)
	@grep score build/fresh/types.txt

bench: venv ## Measure ours against the peers; writes docs/benchmarks.md (BENCH_ARGS=--quick: a look)
	$(BIN)/python -m pip install --quiet --group bench
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(BENCH_ARGS)

fuzz: venv ## Look for input that breaks us, FUZZ_SECONDS at each target
	$(BIN)/python -m pip install --quiet --group fuzz
	mkdir -p build/fuzz
	set -e; for target in $(FUZZ_TARGETS); do \
		$(BIN)/python tests/fuzz/run.py $$target -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/$$target- ; \
	done

mutation: venv ## Change the code in small ways; each change must fail a test (MODULES="crypto.signing cookie": those alone)
	$(BIN)/python -m pip install --quiet --group mutation
	PYTHONPATH=tests $(BIN)/python -m mutation $(MODULES)

clean: ## Remove what was made
	rm -rf $(VENV) .venv-* dist build .mypy_cache .ruff_cache .pytest_cache docs/_build
