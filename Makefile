# The two commands are `make run` and `make test`; the others are for who works on Superscope.
SHELL := /bin/bash
PY := .venv/bin/python
MODELS := build/test-models

.PHONY: run test test-slow lint bench bench-peers demo toys screenshots prepare-test clean help

help:  ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

run:  ## install what is missing, open the window on the demo session
	@packaging/bootstrap.sh run
	@$(PY) -m app.main --demo

prepare-test:
	@packaging/bootstrap.sh test
	@$(PY) -m tests.fetch_models $(MODELS)

test: prepare-test  ## install what is missing, run the suite off-screen, then the journeys in real windows
	$(PY) -m pytest tests/engine -m "not slow" -n 2 --dist loadfile
	$(PY) -m pytest tests/app -m "not slow" -n 2 --dist loadfile
	$(PY) -m pytest tests/journeys -n 2 --dist loadfile

test-slow: prepare-test  ## the tests that take minutes
	$(PY) -m pytest tests -m slow

lint:  ## ruff, mypy --strict on engine, import contracts
	@packaging/bootstrap.sh test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

bench: prepare-test  ## the figures to reach, as ratios within one run
	$(PY) -m tests.benchmarks

bench-peers: prepare-test  ## speed against other libraries, which get an environment of their own in build/peers
	$(PY) -m tests.benchmarks.peers
	$(PY) -m tests.benchmarks.peers.formats

demo:  ## train the demo model again and rebuild the demo session
	@packaging/bootstrap.sh run
	$(PY) -m engine.toys.demo

toys:  ## run every toy at its demo size and keep the runs that ship
	@packaging/bootstrap.sh run
	$(PY) -m engine.toys.finished

screenshots: prepare-test  ## every panel in both themes, into screenshots/
	$(PY) -m app.screenshots screenshots

clean:  ## remove what was built here, the virtual environment included
	rm -rf .venv build screenshots *.egg-info
