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
ALERTS := deploy/prometheus

.PHONY: help deps build run test lint bench compare clean

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

test: build ## Every test
	@$(CARGO) test --release --workspace $(LOCKED)
	$(PYTHON) tests/golden/check.py

lint: deps ## Formatting, clippy and documentation, warnings as errors; cargo-deny, promtool where they are installed
	@$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets $(LOCKED) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps --document-private-items --workspace $(LOCKED)
	if $(CARGO) deny --version > /dev/null 2>&1; then $(CARGO) deny check; else echo "cargo-deny is not installed: skipped"; fi
	if command -v promtool > /dev/null; then
	    promtool check config $(ALERTS)/cdr-mediation.scrape.yml
	    promtool test rules $(ALERTS)/cdr-mediation.rules.test.yml
	else
	    echo "promtool (Debian package prometheus) is not installed: skipped"
	fi

bench: build ## Every benchmark
	@$(CARGO) bench --profile release --workspace --bench '*' $(LOCKED)

compare: build ## The replicated append beside PostgreSQL 15 with two quorum standbys
	@scripts/compare-postgres.sh

clean: ## Removes everything that was built or generated (RocksDB too: minutes to compile again)
	@$(CARGO) clean
	rm -rf run .venv
