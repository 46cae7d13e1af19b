# Every target does its own set-up; the second time nothing is downloaded.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test check-deploy deploy-files faults bench bench-failures bench-sources clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/.ready ## prepare .venv, run nothing

# uv when it is there (seconds), the standard library's venv and pip otherwise.
.venv/.ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" .venv && \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[broker,dev]'; \
	else \
		"$(PYTHON)" -m venv .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[broker,dev]'; \
	fi
	@touch $@

demo: .venv/.ready ## prices over REST and trades over a websocket, through Kafka into CSV files
	@$(BIN)/python -m aiopype.demo

test: .venv/.ready ## lint, format, layers, types, then the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest

check-deploy: .venv-deploy/.ready ## what is in deploy/, checked with the tools that it is for
	.venv-deploy/bin/python -m pytest tests/deploy -m deploy

deploy-files: .venv-deploy/.ready ## write anew what in deploy/ is made of the chart, the rules and the dashboard
	@.venv-deploy/bin/python deploy/generate.py

# .venv and the checkers that pip has; the tests fetch the others, into .tools.
.venv-deploy/.ready: pyproject.toml constraints.txt deploy/check/requirements.txt
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" .venv-deploy && \
		uv pip install --quiet --python .venv-deploy/bin/python -c constraints.txt -r deploy/check/requirements.txt -e '.[broker,dev]'; \
	else \
		"$(PYTHON)" -m venv .venv-deploy && \
		.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r deploy/check/requirements.txt -e '.[broker,dev]'; \
	fi
	@touch $@

faults: .venv/.ready ## every fault, an hour: make faults FAULTS="--hours 1 --seed 7"
	$(BIN)/python -m pytest tests/faults tests/hazards -m "faults or kafka" $(FAULTS)

bench: .venv-bench/.ready ## aiopype beside other ways to do the same, eight minutes
	@.venv-bench/bin/python -m benchmarks.run $(BENCH)

bench-failures: .venv-bench/.ready ## what events that fail cost, four minutes
	@.venv-bench/bin/python -m benchmarks.failures $(BENCH)

bench-sources: .venv-bench/.ready ## what a thousand REST sources and a flooded websocket cost, three minutes
	@.venv-bench/bin/python -m benchmarks.sources_kafka $(BENCH)

# An environment of its own: the peers' dependencies are nobody else's, nor are our versions theirs.
.venv-bench/.ready: pyproject.toml benchmarks/requirements.txt
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" .venv-bench && \
		uv pip install --quiet --python .venv-bench/bin/python -r benchmarks/requirements.txt; \
	else \
		"$(PYTHON)" -m venv .venv-bench && \
		.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt; \
	fi
	@touch $@

clean: ## remove what the targets made
	rm -rf .venv .venv-bench .venv-deploy .tools .aiopype .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
