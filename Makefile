# Conclave's commands. `make demo` shows it, `make test` checks it; each sets up what it needs.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
BIN := .venv/bin
STAMP := .venv/.complete
QUESTIONS := data/problems/demo.jsonl
SHARED := -n 2 --max-worker-restart=0
PYTEST_ARGS :=
SCHEDULES := 1000000
CASES := 10000
SEED := $(shell date +%j000000)
TYPED := --explicit-package-bases $(wildcard conclave schemas services migrations training benchmarks tests)

.PHONY: help setup demo test check simulate soak fuzz-api format bench bench-cache bench-effort bench-experiments bench-others bench-router bench-reasoner bench-strategies load load-gateway train up down clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## make .venv; nothing to do when it is up to date

$(STAMP): requirements/all.txt pyproject.toml .ci/setup
	@PYTHON='$(PYTHON)' ./.ci/setup
	@touch $@

up: setup ## start Kafka, PostgreSQL and every service in the background
	@$(BIN)/conclave up

demo: up ## answer 100 questions through Kafka, vLLM and PostgreSQL, with each tally
	@$(BIN)/conclave publish $(QUESTIONS)
	@echo "The stack keeps running: try \`$(BIN)/conclave ask \"...\"\`, and stop it with \`make down\`."

test: setup ## every test, on a real Kafka, PostgreSQL and vLLM, and in Chromium
	@./.ci/chromium
	@./.ci/node
	@$(BIN)/pytest $(SHARED) $(PYTEST_ARGS)

check: setup ## format, lint, types, import rules, stale schemas, fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports
	@$(BIN)/python -m schemas check
	@$(BIN)/pytest $(SHARED) tests/unit $(PYTEST_ARGS)

simulate: setup ## ten thousand random schedules of every service, on a broker in memory
	@$(BIN)/python -m conclave.testing.soak --schedules 10000

soak: setup ## a million of them, from another seed each day (SEED=n sets the first)
	@$(BIN)/python -m conclave.testing.soak --schedules $(SCHEDULES) --from $(SEED)

fuzz-api: setup ## ten thousand generated calls of the gateway's API, each answered as its OpenAPI document says (CASES=n)
	@CONCLAVE_API_CASES=$(CASES) $(BIN)/pytest -q -rP --timeout 3600 tests/unit/test_gateway_openapi.py $(PYTEST_ARGS)

format: setup ## rewrite the code as `make check` wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## throughput and overhead of the pipeline
	@$(BIN)/python -m benchmarks.pipeline
	@$(BIN)/python -m benchmarks.against_vllm

load: setup ## the pipeline under growing load: latencies by stage, memory, CPU, queues; writes load.html (LOAD="--up --clients 50:500:10")
	@$(BIN)/python -m benchmarks.load $(LOAD)

load-gateway: setup ## 50 to 500 clients of a gateway in two minutes; Kafka and the gateway are killed in the middle; is each answered once?
	@$(BIN)/python -m benchmarks.load --gateway --clients 50:500:10 --seconds 12 --kill kafka --kill gateway --html load-gateway.html

bench-router: setup ## what the shipped router saves on the shipped model, and what it costs in accuracy
	@$(BIN)/python -m benchmarks.router

bench-effort: setup ## what an estimate of need is worth: accuracy at the same number of samples
	@$(BIN)/python -m benchmarks.effort

bench-cache: setup ## what remembering answers is worth: who is known again, and evictions on a stream
	@$(BIN)/python -m benchmarks.cache

bench-experiments: setup ## wrong winners, samples, regret, coverage and alarms of experiments, by simulation
	@$(BIN)/python -m benchmarks.experiments

bench-others: setup ## right answers/s against its_hub and optillm, on the same model, engine and budget
	@$(BIN)/python -m benchmarks.against_others

bench-reasoner: setup ## what the shipped model answers, and how fast
	@$(BIN)/python -m benchmarks.reasoner
	@$(BIN)/python -m benchmarks.engine_start

bench-strategies: setup ## every way of reasoning on the held-out problems: accuracy against tokens
	@$(BIN)/python -m benchmarks.strategies

train: setup ## train models/reasoner anew
	@$(BIN)/python -m training train

down: ## stop the stack; its data stays
	@if [ -x $(BIN)/conclave ]; then $(BIN)/conclave down; fi

clean: down ## remove the stack's data, caches and .venv
	rm -rf .conclave .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
