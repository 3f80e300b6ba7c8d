# cdr-mediation. `make help` lists what there is.
#
# One profile (release) serves build, run, tests, lints and benchmarks, so that RocksDB is compiled once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

CARGO ?= cargo
# `LOCKED=--locked` refuses a Cargo.lock that does not fit.
LOCKED ?=
# Day and size of the sample that `make run` replays.
DAY ?= 2026-04-20
RECORDS ?= 100000

BINARY := target/release/cdr-mediation
PYTHON := .venv/bin/python
# Tools that `make deps` brings.
TOOLS := .venv/bin
ALERTS := deploy/prometheus

.PHONY: help deps build run quick test nightly lint advisories bench compare clean

help: ## Lists the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## Installs what is missing on a bare Debian 12 with Rust
	@scripts/deps.sh

build: deps ## Compiles everything that runs
	@$(CARGO) build --release --workspace --bins $(LOCKED)

run: build ## Three replicas, fed with a generated day; serves on 127.0.0.1:3018 until Ctrl-C
	@mkdir -p run
	rm -rf run/dev-before
	if [ -e run/dev ]; then mv run/dev run/dev-before; echo "run/dev of the run before is now run/dev-before"; fi
	$(BINARY) generate --day $(DAY) --records $(RECORDS) > run/day.ndjson
	MALLOC_ARENA_MAX=2 exec $(BINARY) dev --data run/dev --replay run/day.ndjson

quick: deps ## While you work: formatting, spelling, clippy and the unit tests, no processes or servers
	@$(CARGO) fmt --all --check
	$(TOOLS)/typos
	$(CARGO) clippy --release --workspace --all-targets $(LOCKED) -- -D warnings
	$(CARGO) test --release --workspace --lib $(LOCKED) -- $(THREADS)

# Many tests wait, for elections and deliveries: on two cores, four of them go on beside each other.
THREADS := --test-threads 4

# Without `build`: what the tests run is built with them, and a build for it alone would compile the service once more.
test: deps ## Every test
	@$(CARGO) test --release --workspace $(LOCKED) -- $(THREADS)
	$(PYTHON) tests/golden/check.py

nightly: deps ## Every test with long histories: thousands of seeds and cases, a bus that is gone for minutes
	@export CDR_SIM_SEEDS=5000 CDR_TEST_ROUNDS=20 CDR_OUTAGE_SECONDS=600 CDR_DELIVERY_TEST_MIB=2048 CDR_UPGRADE_GAP_MS=2000
	$(CARGO) test --release --workspace $(LOCKED) -- $(THREADS)

lint: deps ## Formatting, spelling, alert rules, dependencies, clippy and documentation; warnings are errors
	@$(CARGO) fmt --all --check
	$(TOOLS)/typos
	$(TOOLS)/cargo-deny --locked --log-level error check bans licenses sources
	$(TOOLS)/promtool check config $(ALERTS)/cdr-mediation.scrape.yml
	$(TOOLS)/promtool test rules $(ALERTS)/cdr-mediation.rules.test.yml $(ALERTS)/cdr-mediation.rules.days.test.yml
	$(CARGO) clippy --release --workspace --all-targets $(LOCKED) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps --document-private-items --workspace $(LOCKED)

advisories: deps ## RustSec advisories against the dependencies; needs github.com
	@$(TOOLS)/cargo-deny --locked check advisories

bench: build ## Every benchmark
	@$(CARGO) bench --profile release --workspace --bench '*' $(LOCKED)

compare: build ## The replicated append beside PostgreSQL 15 with two quorum standbys
	@scripts/compare-postgres.sh

clean: ## Removes everything that was built or generated (RocksDB too: minutes to compile again)
	@$(CARGO) clean
	rm -rf run .venv
