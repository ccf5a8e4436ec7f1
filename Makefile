# What a newcomer needs is `make demo` and `make test`; each does all of its own set-up.
# Everything it makes lies below target/, but for dashboard/web/node_modules.

PG ?= 15
TIER ?=

.PHONY: help bench bench-quick demo demo-fresh demo-stop dashboard test test-dashboard build setup lint clean-clusters

help:
	@echo 'make demo               a server of its own with a year of traffic; shows what the extension answers, starts the dashboard'
	@echo 'make demo-fresh         the same, made anew'
	@echo 'make demo-stop          stops them'
	@echo 'make dashboard          builds target/dashboard/llm-dashboard with its pages'
	@echo 'make test-dashboard     its tests: the server, the OpenAPI document, the pages in Chromium'
	@echo 'make test               all tests, against PostgreSQL 15; PG=16 or PG=18 for another major'
	@echo 'make test TIER=regress  one tier: core, regress, isolation, server or backlog; TESTS="a b" only these tests'
	@echo 'make bench             the benchmark (see bench/README.md); bench-quick: a small one, that it works'
	@echo 'make build              compiles into target/pg/15; PG_CONFIG=/path/to/pg_config into another server'
	@echo 'make lint               cargo fmt --check and clippy'
	@echo 'make clean-clusters     stops and deletes every private cluster below target/'

setup:
	@scripts/setup $(PG)

build: setup
	@scripts/build $(PG)

# these use the private servers only
bench bench-quick demo demo-fresh test test-dashboard: export PG_CONFIG =

bench bench-quick demo demo-fresh test-dashboard: override PG = 15
demo: build dashboard
	@demo/run

demo-fresh: build dashboard
	@demo/run fresh

demo-stop:
	@demo/stop

dashboard:
	@scripts/dashboard

test-dashboard: build dashboard
	@scripts/test-dashboard

bench: build
	@bench/run

bench-quick: build
	@bench/run quick

test: build
	@scripts/test $(PG) $(TIER)

lint: setup
	@scripts/lint $(PG)

clean-clusters:
	@scripts/clean-clusters
