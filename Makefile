# The one door for people and CI. Each target sets up what it needs (tools/setup.sh).

PYTHON ?= python3
BIN := .venv/bin
# How many tests run side by side.
WORKERS ?= 2

# rustup puts cargo there and cannot change the PATH of a shell that is open already.
export PATH := $(HOME)/.cargo/bin:$(PATH)
export PYTHON
# One interpreter for all builds of PyO3; otherwise each tool would rebuild it for its own.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-quick check-cross bench bench-quick docs lint fmt wheels try-debian clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Create, bind, map, copy and release on the best device there is, or a simulated one
	@tools/setup.sh release
	@$(BIN)/vk-mem demo

test: ## Run all tests, with the engine checking itself after every operation
	@tools/setup.sh validate
	@$(BIN)/python tools/run_tests.py --workers $(WORKERS)

test-quick: ## The same without what is slow, which it names at the end
	@tools/setup.sh validate
	@$(BIN)/python tools/run_tests.py --workers $(WORKERS) --quick

check-cross: ## Check other systems' code, and try the Windows wheel under Wine (Debian; installs a lot)
	@tools/check_cross.sh

# First the Rust half, which begins bench/results.json, then every file of cases in Python.
BENCH = set -e; target/release/vkmem-peers $(1); \
	for cases in bench/*_cases.py; do $(BIN)/python $$cases $(1); done

bench: ## Measure beside VMA in one process, some minutes; writes bench/results.json
	@tools/setup.sh release
	cargo build --release -p vkmem-peers
	@$(call BENCH)

bench-quick: ## The same with smaller counts, under a minute
	@tools/setup.sh release
	cargo build --release -p vkmem-peers
	@$(call BENCH,quick)

docs: ## Build the documentation into site/, with pictures that its own programs draw
	@tools/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "built site/index.html"

lint: ## Check format, lints, types and stubs
	@tools/setup.sh validate
	cargo fmt --all --check
	@# Its own folder: maturin builds PyO3 with other settings, and each would undo the other.
	cargo clippy --target-dir target/clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_stubs.py

fmt: ## Format all code and fix what can be fixed by itself
	@tools/setup.sh tools
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheels: ## Build the wheel and the source distribution into dist/, check them, and try both
	@tools/setup.sh wheels
	@tools/wheels.sh all dist

try-debian: ## As root: install the wheel of dist/ in a fresh Debian 12, without and with a Vulkan driver
	@tools/try_debian.sh dist/*manylinux*.whl

clean: ## Remove everything that was built or installed here
	rm -rf target .venv .setup dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f python/vk_mem/*.so
